"""What a backend can do follows from what its driver has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tranship.driver._connection import Connection, TellingTime, answers_submitters, log_of, replies_of
from tranship.driver._delay import RESOLUTION
from tranship.driver._kit import OwnPorts
from tranship.driver._queue import (
    Counting,
    Finding,
    Picking,
    Renewing,
    Scanning,
    Searching,
    traits_of,
)
from tranship.errors import PluginError
from tranship.ports import Capabilities, Capability, CountKind, Level, Support

__all__ = ["derived"]

Found = tuple[Capability, Support]


def derived(
    name: str,
    connection: Connection,
    declared: Mapping[Capability, Support | Level],
    own: OwnPorts,
    *,
    told: bool = False,
) -> Capabilities:
    """Return the capabilities of a driver that is connected.

    Args:
        name: of the driver, for errors.
        connection: its own.
        declared: what nothing here can show (DURABLE, CROSS_PROCESS), and what the driver knows better.
        own: the ports that it serves itself.
        told: whether its result store is told of ids.

    Raises:
        PluginError: its traits promise what its verbs cannot keep.
    """
    _check(name, connection)
    found = dict(
        [
            *_of_the_queue(connection),
            *_of_the_schedule(connection),
            *(_of_the_table(connection) if connection.table is not None else _of_no_table(connection)),
            *_of_the_topic(connection),
        ]
    )
    if own.results is not None:
        # The kit writes no result of another store with an end.
        found.pop(Capability.FUSED_SETTLE, None)
    if own.control is not None:
        # Whether it keeps names, it declares.
        found.pop(Capability.UNIQUE_NAMES, None)
    by_telling = dict([_emulated(Capability.KNOWS_IDS, told=True)] if told else [])
    made = Capabilities({**found, **declared, **by_telling})
    if own.results is not None and not made.answers:
        raise PluginError(f"{name}: it has a result store of its own, and declares neither RESULTS nor RESULT_PUSH")
    if own.control is not None and not made.has(Capability.CONTROL):
        raise PluginError(f"{name}: it has a control channel of its own, and does not declare CONTROL")
    return made


def _check(name: str, connection: Connection) -> None:
    queue = connection.queue
    traits = traits_of(queue)
    if traits.lease is not None and not isinstance(queue, Renewing):
        raise PluginError(f"{name}: its queue has leases (traits.lease) and no renew(); give it one, or no leases")
    if traits.tells and (connection.table is None or connection.topic is None):
        raise PluginError(f"{name}: its queue tells of rows (traits.tells), but there is no table, or no topic")
    if traits.waits and getattr(connection, "immediate", False):
        raise PluginError(f"{name}: its take waits (traits.waits), and its connection is immediate; be one of them")
    if log_of(connection) is not None and connection.topic is None:
        raise PluginError(f"{name}: it has a log and no topic; give it one, so that cancels are heard of at once")
    if traits.fuses and connection.table is None:
        raise PluginError(f"{name}: its queue writes rows with its endings (traits.fuses), but there is no table")


def _native(capability: Capability, **properties: Any) -> Found:
    return capability, Support(Level.NATIVE, properties)


def _emulated(capability: Capability, **properties: Any) -> Found:
    return capability, Support(Level.EMULATED, properties)


def _of_the_queue(connection: Connection) -> Iterator[Found]:
    queue = connection.queue
    traits = traits_of(queue)
    if traits.levels:
        yield _native(Capability.PRIORITY)
    if traits.order is not None:
        yield _native(Capability.ORDERED, **({"redelivered": "back"} if traits.order == "back" else {}))
    if traits.lease is not None:
        yield _native(Capability.LEASE)
    if traits.counts is not CountKind.UNKNOWN:
        yield _native(Capability.DELIVERY_COUNT, kind=traits.counts)
    if isinstance(queue, Counting):
        for capability in (Capability.INSPECT_DEPTH, Capability.INSPECT_IN_FLIGHT, Capability.INSPECT_OLDEST):
            yield _native(capability)
    finds = isinstance(queue, Searching) or (isinstance(queue, Finding) and traits.finds == "all")
    if finds and isinstance(queue, Scanning) and isinstance(queue, Picking):
        yield _native(Capability.BROWSE)


def _of_the_schedule(connection: Connection) -> Iterator[Found]:
    queue = connection.queue
    clock = {} if isinstance(connection, TellingTime) else {"clock": "host"}
    if traits_of(queue).delays:
        yield _native(Capability.DELAY, resolution=0.01, cancellable=True, **clock)
        if isinstance(queue, Finding) and isinstance(queue, Picking):
            yield _native(Capability.DELAY_CANCEL)
    elif connection.table is not None:
        yield _emulated(Capability.DELAY, resolution=RESOLUTION, cancellable=True, **clock)
        yield _emulated(Capability.DELAY_CANCEL)


def _of_the_table(connection: Connection) -> Iterator[Found]:
    queue, traits = connection.queue, traits_of(connection.queue)
    if traits.fuses and traits.unique:
        yield _native(Capability.RETRY_SAFE)
    else:
        yield _emulated(Capability.RETRY_SAFE, among="checked")
    yield (_native if traits.fuses else _emulated)(Capability.KEY_WINDOW, window="per-task")
    if traits.fuses:
        yield _native(Capability.FUSED_SETTLE)
    yield _native(Capability.RESULTS)
    yield _native(Capability.RESULT_TTL, ttl="per-result")
    push = _emulated if connection.topic is None else _native
    yield push(Capability.RESULT_PUSH, with_submit=True)
    yield push(Capability.CONTROL)
    yield _native(Capability.UNIQUE_NAMES)
    yield _native(Capability.RECORDS)
    yield _emulated(Capability.DEAD_LETTERS)
    if isinstance(queue, Finding) and traits.finds == "all":
        yield _native(Capability.KNOWS_IDS)


def _of_no_table(connection: Connection) -> Iterator[Found]:
    if log_of(connection) is not None:
        yield _emulated(Capability.CONTROL)
    if isinstance(connection.queue, Counting):
        # Dead letters are queues of their own, which are found by their names.
        yield _emulated(Capability.DEAD_LETTERS)


def _of_the_topic(connection: Connection) -> Iterator[Found]:
    if answers_submitters(connection):
        push = _emulated if replies_of(connection) is None else _native
        yield push(Capability.RESULT_PUSH, to="submitter")
