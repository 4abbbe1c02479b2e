"""What the author of a backend writes: a queue of three verbs, and what the broker can do besides.

A *driver* opens a :class:`Connection`; over it there is a :class:`Queue`, and there may be a :class:`Table` and a
:class:`Topic`. :class:`DriverBackend` makes all ports of them: it cuts what is sent, keeps duplicates out, buffers what
was taken, delays, settles, keeps dead letters, results, cancels and heartbeats, and watches over the connection. Each
verb makes **one attempt of one thing** and never retries. What a driver does not have is emulated with its table, or
refused with :class:`~tranship.errors.UnsupportedError`; :attr:`~tranship.ports.Backend.capabilities` follow from it.

========================================  =====================================================================
``send``, ``take``, ``end``               submitting and working: a :class:`Queue`
:class:`QueueTraits`                      levels, order, counts, waiting, delays, one-step ends
``post``                                  sends that cost no task
``recall``                                what became of a send whose answer was lost
``renew``                                 leases: a crash is noticed while the worker's host lives on
``watch``                                 waking, instead of looking twenty times a second
``find``, ``pick``                        states of tasks, unknown ids; cancelling what is queued
``scan``, ``pick``                        taking what is not due yet, to move it elsewhere
``search``, ``pick``                      removing single tasks where there is no index of what is ready
``queues``                                counts for operators and autoscaling
``ensure``                                queues that have to be made
``demand``                                brokers that push
``reader``                                brokers that have a channel, or credit, for each consumer
:class:`Table`                            results, cancels, heartbeats, names, records, dedup, delay, dead letters
:class:`Topic`                            pushed results and live commands without looking for them
:class:`Log`                              cancels and heartbeats, where there is no table
:class:`ReplyQueue`                       results that come once, to who submitted, where none are kept
``peek``                                  dead letters where there is no table, and looking is counted
:class:`TellingTime`                      the broker's clock, by which delays and deadlines go
:class:`OwnPorts`                         whole ports, or single verbs of them, that the driver serves itself
========================================  =====================================================================

Docstrings answer the same questions in the same order as those of :mod:`tranship.ports`; ``[name]`` is the case of
``tranship.testing.suites`` that tests the rule, below the ports: ``QueueSuite``, ``TableSuite``,
``TopicSuite``, ``LogSuite``.

A driver is used on the event loop that its connection was opened on, and on no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.driver._backend import DriverBackend
from tranship.driver._connection import (
    Connection,
    LocalConnection,
    Log,
    ReplyQueue,
    Table,
    TellingTime,
    Topic,
)
from tranship.driver._dialling import Classify, unreachable
from tranship.driver._kit import Kit, OwnPorts, instead
from tranship.driver._nouns import (
    Answer,
    End,
    Ending,
    Heard,
    Outgoing,
    QueueTraits,
    Row,
    SendLimits,
    Slot,
    Stored,
    Taken,
    TakenBatch,
    Undo,
)
from tranship.driver._packing import Facts, facts_of, facts_read, headers_bytes, pack, unpack
from tranship.driver._queue import (
    Counting,
    CountingSome,
    Ensuring,
    Finding,
    Interruptible,
    Peeking,
    Picking,
    Posting,
    Pushing,
    Queue,
    Reader,
    Reading,
    Recalling,
    Renewing,
    Scanning,
    Searching,
    Shared,
    Watching,
)
from tranship.driver._timing import Timing
from tranship.driver._topic import Subscriptions

if TYPE_CHECKING:
    from tranship.driver._options import ConnectionOptions
    from tranship.driver._removal import cancelled_result, queued_task
    from tranship.driver._result_store import NoQueue, result_store

__all__ = [
    "Answer",
    "Classify",
    "Connection",
    "ConnectionOptions",
    "Counting",
    "CountingSome",
    "DriverBackend",
    "End",
    "Ending",
    "Ensuring",
    "Facts",
    "Finding",
    "Heard",
    "Interruptible",
    "Kit",
    "LocalConnection",
    "Log",
    "NoQueue",
    "Outgoing",
    "OwnPorts",
    "Peeking",
    "Picking",
    "Posting",
    "Pushing",
    "Queue",
    "QueueTraits",
    "Reader",
    "Reading",
    "Recalling",
    "Renewing",
    "ReplyQueue",
    "Row",
    "Scanning",
    "Searching",
    "SendLimits",
    "Shared",
    "Slot",
    "Stored",
    "Subscriptions",
    "Table",
    "Taken",
    "TakenBatch",
    "TellingTime",
    "Timing",
    "Topic",
    "Undo",
    "Watching",
    "cancelled_result",
    "facts_of",
    "facts_read",
    "headers_bytes",
    "instead",
    "pack",
    "queued_task",
    "result_store",
    "unpack",
    "unreachable",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(),
    {
        "_options": ["ConnectionOptions"],
        "_removal": ["cancelled_result", "queued_task"],
        "_result_store": ["NoQueue", "result_store"],
    },
)
