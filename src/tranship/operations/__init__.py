"""What an operator does: look at queues and workers, deal with dead letters, find out what is wrong, move a backlog."""

from tranship.commanding import CommandAnswer, CommandState
from tranship.finished import Finished, Later
from tranship.operations._dead import DeadLetterReport, attempt_of
from tranship.operations._diagnosis import Diagnosis, Finding, Reach, Severity
from tranship.operations._history import History
from tranship.operations._latency import Percentiles, TaskLatency, latencies, percentiles, run_times, waited
from tranship.operations._move import Move, MoveOptions
from tranship.operations._move_report import MovedQueue, MoveProgress, MoveReport, Refusal
from tranship.operations._operator import AsyncOperator, Operator
from tranship.operations._queues import QueueReport
from tranship.operations._sampler import Sample, Sampler
from tranship.ports import QueuedTask

__all__ = [
    "AsyncOperator",
    "CommandAnswer",
    "CommandState",
    "DeadLetterReport",
    "Diagnosis",
    "Finding",
    "Finished",
    "History",
    "Later",
    "Move",
    "MoveOptions",
    "MoveProgress",
    "MoveReport",
    "MovedQueue",
    "Operator",
    "Percentiles",
    "QueueReport",
    "QueuedTask",
    "Reach",
    "Refusal",
    "Sample",
    "Sampler",
    "Severity",
    "TaskLatency",
    "attempt_of",
    "latencies",
    "percentiles",
    "run_times",
    "waited",
]
