"""Capabilities: what is declared has its properties, what is not declared is refused."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tranship.envelope import Priority
from tranship.errors import UnsupportedError
from tranship.ports import Backend, Capability, Command, CountKind
from tranship.protocol import Message
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["CapabilityCases"]


class CapabilityCases:
    """Part of the lifecycle's suite."""

    @case(
        "capabilities_truthful",
        level="core",
        rationale="what a backend cannot do must be known when it opens, not at message 10,000",
    )
    async def test_capabilities_truthful(self, context: CaseContext) -> None:
        """Every capability declared none is refused or empty; the declared ones say what they must."""
        backend = await context.open()
        assert list(backend.capabilities) == list(Capability)
        wrong = []
        for capability, support in backend.capabilities.items():
            if backend.capabilities.has(capability):
                wrong += _missing(capability, support.properties)
            elif (probe := _PROBES.get(capability)) is not None and not await probe(context, backend):
                wrong.append(f"{capability} is none, but what needs it is not refused with UnsupportedError")
        assert not wrong, wrong

    @case("capabilities_stable", level="core", rationale="the core asks once, when it opens")
    async def test_capabilities_stable(self, context: CaseContext) -> None:
        """Two backends on one broker declare the same, now and later."""
        backend, other = await context.open(), await context.open()
        before = dict(backend.capabilities)
        await context.submit(backend, context.message())
        assert dict(backend.capabilities) == before == dict(other.capabilities)


_PROPERTIES: Final[Mapping[Capability, tuple[str, Callable[[object], bool]]]] = {
    Capability.DELAY: ("resolution", lambda value: isinstance(value, int | float) and value > 0),
    Capability.DELIVERY_COUNT: ("kind", lambda value: value in {CountKind.EXACT, CountKind.AT_LEAST}),
    Capability.KEY_WINDOW: ("window", lambda value: value in {"per-task", "fixed"}),
    Capability.RESULT_TTL: ("ttl", lambda value: value in {"per-result", "per-store"}),
}


def _missing(capability: Capability, properties: Mapping[str, object]) -> list[str]:
    name, valid = _PROPERTIES.get(capability, ("", None))
    if valid is None or valid(properties.get(name)):
        return []
    return [f"{capability} is declared with {name}={properties.get(name)!r}"]


async def _refused(call: Callable[[], object]) -> bool:
    """Whether ``call``, awaited where it can be, raises or answers UnsupportedError."""
    try:
        answer = call()
        if isinstance(answer, Awaitable):
            answer = await answer
    except UnsupportedError:
        return True
    return isinstance(answer, list) and bool(answer) and all(isinstance(one, UnsupportedError) for one in answer)


async def _submit_refused(backend: Backend, message: Message) -> bool:
    return await _refused(lambda: backend.submitter().submit([message]))


async def _delay(context: CaseContext, backend: Backend) -> bool:
    return await _submit_refused(backend, context.message(not_before=time.time() + 60))


async def _priority(context: CaseContext, backend: Backend) -> bool:
    return await _submit_refused(backend, context.message(priority=Priority.HIGH))


async def _key_window(context: CaseContext, backend: Backend) -> bool:
    return await _submit_refused(backend, context.message(dedup_key="key-1"))


async def _lease(_lab: CaseContext, backend: Backend) -> bool:
    return backend.consumer(["truth"]).lease is None


async def _results(_lab: CaseContext, backend: Backend) -> bool:
    # One that can only push to who submitted has a store nothing can be read from.
    return await _refused(lambda: backend.results().get_many(["a"]))


async def _push(_lab: CaseContext, backend: Backend) -> bool:
    return await _refused(lambda: backend.results().attach(lambda _results: None))


async def _control(_lab: CaseContext, backend: Backend) -> bool:
    return await _refused(lambda: backend.control().send(Command(name="ping")))


async def _dead(_lab: CaseContext, backend: Backend) -> bool:
    return await _refused(lambda: backend.inspector().dead())


async def _depth(_lab: CaseContext, backend: Backend) -> bool:
    return await _refused(lambda: backend.inspector().queues())


async def _count(context: CaseContext, backend: Backend) -> bool:
    await context.submit(backend, context.message(queue="truth"))
    (delivery,) = await context.receive(backend.consumer(["truth"]))
    return delivery.count_kind is CountKind.UNKNOWN


_PROBES: Final[Mapping[Capability, Callable[[CaseContext, Backend], Awaitable[bool]]]] = {
    Capability.DELAY: _delay,
    Capability.PRIORITY: _priority,
    Capability.KEY_WINDOW: _key_window,
    Capability.LEASE: _lease,
    Capability.RESULTS: _results,
    Capability.RESULT_PUSH: _push,
    Capability.CONTROL: _control,
    Capability.DEAD_LETTERS: _dead,
    Capability.INSPECT_DEPTH: _depth,
    Capability.DELIVERY_COUNT: _count,
}
"""How the lack of a capability shows. Those left out (DURABLE, ORDERED, ...) have no verb to refuse."""
