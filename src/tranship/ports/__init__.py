"""What a backend author implements, and what the core relies on.

A backend is a *thin driver*: each method makes **one attempt of one thing** and never retries.
Retry, coalescing, deadlines, poison limits, late-result refusal, tracing and emulation are the
core's. Each docstring answers the same questions in the same order:

* **Concurrency** - may two callers use it at once?
* **Bound** - when does it return with nothing?
* **Cancelled** - what is true after ``CancelledError``?
* **Retry** - never; ``retryable`` on the error tells the caller.
* **Errors** - which of ours, when; the native error is ``__cause__``.
* **Closed** - after ``aclose`` every method but ``aclose`` raises :class:`~tranship.errors.ClosedError`.

``[name]`` at the end of a rule names the conformance case that tests it (``tranship.testing``).

A backend is bound to the event loop that opened it, unless a method says *any thread*.
All durations are seconds; all points in time are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.ports._capabilities import Capabilities, Capability, Level, Support
from tranship.ports._nouns import (
    ConnectionEvent,
    CountKind,
    Delivery,
    Received,
    Settled,
    Settlement,
    StoredResult,
    Verdict,
)
from tranship.ports._protocols import (
    Backend,
    BriefInspector,
    CancelMarks,
    Consumer,
    ControlChannel,
    DeadLetterTaker,
    EarlyConsumer,
    Inspector,
    NameKeeper,
    PeerControl,
    PromptSubmitter,
    QueueBrowser,
    ReaderInspector,
    ResultSink,
    ResultStore,
    Submitter,
)

if TYPE_CHECKING:
    from tranship.ports._chords import ChordCount, ChordPart, ChordStart, ChordStore, KeepsChords, own_chords_of

    # Loaded by workers, by who looks at them or cancels, and not by who submits.
    from tranship.ports._control import ONLOOKER, CancelReport, Command, Panel, PeerEvent, Signal, SignalSink, Tombstone
    from tranship.ports._depths import ready_in
    from tranship.ports._heartbeat import (
        Heartbeat,
        HostFigures,
        QueueTotals,
        RunningTask,
        heartbeat_data,
        heartbeat_of,
    )
    from tranship.ports._known_ids import IdKeeper, KnownId
    from tranship.ports._queues import QueuedTask, QueueInfo, numbers_of
    from tranship.ports._records import KeepsRecords, Record, Records, keeps_records, records_of
    from tranship.ports._worker_names import NameHolder, name_holder_data, name_holder_of

__all__ = [
    "ONLOOKER",
    "Backend",
    "BriefInspector",
    "CancelMarks",
    "CancelReport",
    "Capabilities",
    "Capability",
    "ChordCount",
    "ChordPart",
    "ChordStart",
    "ChordStore",
    "Command",
    "ConnectionEvent",
    "Consumer",
    "ControlChannel",
    "CountKind",
    "DeadLetterTaker",
    "Delivery",
    "EarlyConsumer",
    "Heartbeat",
    "HostFigures",
    "IdKeeper",
    "Inspector",
    "KeepsChords",
    "KeepsRecords",
    "KnownId",
    "Level",
    "NameHolder",
    "NameKeeper",
    "Panel",
    "PeerControl",
    "PeerEvent",
    "PromptSubmitter",
    "QueueBrowser",
    "QueueInfo",
    "QueueTotals",
    "QueuedTask",
    "ReaderInspector",
    "Received",
    "Record",
    "Records",
    "ResultSink",
    "ResultStore",
    "RunningTask",
    "Settled",
    "Settlement",
    "Signal",
    "SignalSink",
    "StoredResult",
    "Submitter",
    "Support",
    "Tombstone",
    "Verdict",
    "heartbeat_data",
    "heartbeat_of",
    "keeps_records",
    "name_holder_data",
    "name_holder_of",
    "numbers_of",
    "own_chords_of",
    "ready_in",
    "records_of",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(),
    {
        "_chords": ["ChordCount", "ChordPart", "ChordStart", "ChordStore", "KeepsChords", "own_chords_of"],
        "_control": ["ONLOOKER", "CancelReport", "Command", "Panel", "PeerEvent", "Signal", "SignalSink", "Tombstone"],
        "_depths": ["ready_in"],
        "_heartbeat": ["Heartbeat", "HostFigures", "QueueTotals", "RunningTask", "heartbeat_data", "heartbeat_of"],
        "_known_ids": ["IdKeeper", "KnownId"],
        "_queues": ["QueueInfo", "QueuedTask", "numbers_of"],
        "_records": ["KeepsRecords", "Record", "Records", "keeps_records", "records_of"],
        "_worker_names": ["NameHolder", "name_holder_data", "name_holder_of"],
    },
)
