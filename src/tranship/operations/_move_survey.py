"""Looking before a move: what is there, what the target lacks, and whether both are one and the same."""

from __future__ import annotations

import difflib
import os
import secrets
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tranship.errors import ConfigurationError, UnsupportedError
from tranship.operations._move_report import MovedQueue
from tranship.ports import Backend, Capability, EarlyConsumer, Heartbeat
from tranship.settings import BrokerURL

__all__ = ["LATER", "check_apart", "count", "gives_early", "survey", "warnings"]

LATER: Final = "hands nothing out before it is due: delayed messages stay; move again when they are due"


async def survey(source: Backend, wanted: Sequence[str] | None) -> tuple[list[MovedQueue], list[str]]:
    """Return the queues to be moved with what is in them, and what there is to say of them.

    Args:
        source: where they are.
        wanted: names; None: every queue with something in it.

    Raises:
        UnsupportedError: the source cannot list its queues, and none was named.
    """
    if not source.capabilities.has(Capability.INSPECT_DEPTH):
        if wanted is None:
            raise UnsupportedError(f"{source.name} cannot list its queues; name those to be moved (--queue)")
        return [MovedQueue(name=name) for name in wanted], []
    infos = {info.name: info for info in await source.inspector().queues()}
    queues = []
    for name in sorted(infos) if wanted is None else dict.fromkeys(wanted):
        info = infos.get(name)
        queue = MovedQueue(name=name, ready=0, delayed=0, in_flight=0, dead=0)
        if info is not None:
            queue.ready, queue.delayed = sum(info.ready.values()), info.delayed
            queue.in_flight, queue.dead = info.in_flight, info.dead
        queues.append(queue)
    return queues, [_nothing_in(queue.name, source, infos) for queue in queues if queue.name not in infos]


def _nothing_in(name: str, source: Backend, others: Collection[str]) -> str:
    """Who has just moved it knows; who has mistyped it is told."""
    close = difflib.get_close_matches(name, others, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"queue {name!r} at {source.url} is empty, or there is no such queue{guess}"


async def count(source: Backend, queues: Sequence[MovedQueue]) -> None:
    """Note what is left of each queue."""
    found = {queue.name: queue for queue in (await survey(source, [queue.name for queue in queues]))[0]}
    for queue in queues:
        queue.left, queue.dead_left = found[queue.name].before, found[queue.name].dead


def warnings(source: Backend, target: Backend) -> Iterator[str]:
    """Yield what somebody who moves from one to the other has to know."""
    for capability, consequence in _LACKS.items():
        if source.capabilities.has(capability) and not target.capabilities.has(capability):
            yield f"{target.name}: {consequence} (capability {capability}: none)"
    if not target.capabilities.has(Capability.RETRY_SAFE):
        yield (
            f"{target.name} does not recognise a message that it has already: what is under way when an answer is "
            "lost, or when this program is killed, may be there twice"
        )


_LACKS: Final = {
    Capability.DURABLE: "what it holds is lost with the process or server",
    Capability.CROSS_PROCESS: "only this process sees what is moved there",
    Capability.PRIORITY: "messages of other levels than normal are refused",
    Capability.DELAY: "messages that are not due are refused",
    Capability.KEY_WINDOW: "dedup keys travel along, and mean nothing there",
    Capability.CONTROL: "cancelled tasks stay at the source",
}


async def gives_early(source: Backend, queues: Sequence[MovedQueue]) -> bool:
    """Whether the source has no delayed messages, or hands them out before they are due."""
    if not source.capabilities.has(Capability.DELAY) or all(queue.delayed == 0 for queue in queues):
        return True
    consumer = source.consumer([queues[0].name])
    try:
        return isinstance(consumer, EarlyConsumer)
    finally:
        await consumer.aclose()


async def check_apart(source: Backend, target: Backend) -> None:
    """Refuse a move from a broker to itself, under whatever other name: it would delete what it cannot add.

    Raises:
        ConfigurationError: both are one.
    """
    same = _place(source) == _place(target)
    if not same and source.capabilities.has(Capability.CONTROL) and target.capabilities.has(Capability.CONTROL):
        same = await _hear_each_other(source, target)
    if same:
        raise ConfigurationError(
            f"source {source.url} and target {target.url} are the same broker and namespace; "
            "name two brokers, or two namespaces"
        )


def _place(backend: Backend) -> tuple[object, ...]:
    url = BrokerURL.parse(backend.url)
    return url.scheme, url.hosts, url.path, url.options.get("namespace", "")


async def _hear_each_other(source: Backend, target: Backend) -> bool:
    """Whether a worker that beats at the source is known at the target."""
    name = f"move-{secrets.token_hex(8)}"
    try:
        await source.control().beat(_beat(name, stopping=False))
        return any(worker.worker == name for worker in await target.inspector().workers())
    except UnsupportedError:
        return False
    finally:
        await source.control().beat(_beat(name, stopping=True))


def _beat(name: str, *, stopping: bool) -> Heartbeat:
    return Heartbeat(
        worker=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        queues=(),
        running=(),
        limit=0,
        at=time.time(),
        stopping=stopping,
    )
