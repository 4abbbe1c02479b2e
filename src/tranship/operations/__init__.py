"""What an operator does: look at queues and workers, deal with dead letters, find out what is wrong."""

from tranship.operations._dead import DeadLetterReport
from tranship.operations._diagnosis import Diagnosis, Finding, Reach, Severity
from tranship.operations._operator import AsyncOperator, Operator
from tranship.operations._queues import QueueReport

__all__ = [
    "AsyncOperator",
    "DeadLetterReport",
    "Diagnosis",
    "Finding",
    "Operator",
    "QueueReport",
    "Reach",
    "Severity",
]
