"""A driver that breaks a rule is named, with the rule; nobody hangs, and nothing is lost."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

import pytest

from driver import three_methods
from driver.crashes import message
from tranship.driver import DriverBackend, QueueTraits, _consumer, _supervisor
from tranship.errors import ClosedError, PluginError, SubmitUnknown
from tranship.ports import Settled, Settlement, Verdict
from tranship.settings import BackendConfig, BrokerURL


class Wrong(three_methods.ThreeMethods):
    """Breaks the rule that a test names."""

    rule = ""

    async def send(self, batch):
        match self.rule:
            case "says yes":
                return [True for _ in batch]
            case "says nothing":
                return None
            case "raises":
                raise KeyError("a bug")
            case "unreachable":
                raise ConnectionResetError("gone")
        return [None] * (len(await super().send(batch)) + (self.rule == "too many") - (self.rule == "too few"))

    async def take(self, slots, limit, wait):
        if self.rule == "take gives nothing":
            return None
        while self.rule == "ignores cancels":
            with suppress(asyncio.CancelledError):
                await self.released.wait()
                break
        taken = await super().take(slots, limit, wait)
        for one in taken.items:
            one.token = [one.token]
        return taken

    async def end(self, endings):
        if self.rule == "end says yes":
            return [True for _ in endings]
        for one in endings:
            (one.token,) = one.token
        return await super().end(endings)


async def wrong(rule: str, **traits: Any) -> tuple[DriverBackend, Wrong]:
    queue = Wrong()
    queue.rule, queue.traits, queue.released = rule, QueueTraits(**traits), asyncio.Event()
    backend = three_methods.make_backend(BackendConfig(BrokerURL.parse("three://wrong"), lambda _key, _make: queue))
    await backend.open()
    return backend, queue


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("too few", r"three: send\(\) gave 0 answers for 1 items"),
        ("too many", r"three: send\(\) gave 2 answers for 1 items"),
        ("says yes", r"three: send\(\) answered True; expected one of NoneType, str, TranshipError"),
        ("says nothing", r"three: send\(\) gave None for 1 items"),
        ("raises", r"three: send\(\) raised KeyError, which the driver's classify\(\) does not know"),
        ("unreachable", "three://wrong: ConnectionResetError: gone"),
    ],
)
async def test_what_a_wrong_answer_leaves_open_is_unknown(rule: str, says: str) -> None:
    backend, _ = await wrong(rule)
    (answer,) = await backend.submitter().submit([message()])
    assert isinstance(answer, SubmitUnknown), answer
    assert re.search(says, str(answer)), str(answer)
    await backend.aclose()


async def test_a_take_that_gives_no_batch_is_named() -> None:
    backend, _ = await wrong("take gives nothing")
    with pytest.raises(PluginError, match=r"three: take\(\) gave None; expected a TakenBatch"):
        await backend.consumer(["q"]).receive(1, 1.0)
    await backend.aclose()


async def test_an_end_that_says_yes_is_named_and_can_be_repeated() -> None:
    backend, queue = await wrong("end says yes")
    await backend.submitter().submit([message()])
    consumer = backend.consumer(["q"])
    (held,) = (await consumer.receive(1, 1.0)).deliveries
    (answer,) = await consumer.settle([Settlement(held, Verdict.ACK)])
    assert isinstance(answer, PluginError)
    assert "three: end() answered True; expected one of Settled, TranshipError" in str(answer)
    queue.rule = ""
    assert await consumer.settle([Settlement(held, Verdict.ACK)]) == [Settled.CONFIRMED]
    await backend.aclose()


async def test_a_token_needs_no_hash() -> None:
    backend, _ = await wrong("")
    await backend.submitter().submit([message()])
    consumer = backend.consumer(["q"])
    (held,) = (await consumer.receive(1, 1.0)).deliveries
    assert await consumer.settle([Settlement(held, Verdict.ACK)]) == [Settled.CONFIRMED]
    await backend.aclose()


async def test_a_take_that_ignores_cancels_holds_up_no_close(caplog, monkeypatch) -> None:
    monkeypatch.setattr(_supervisor, "CLOSING", 0.2)
    backend, queue = await wrong("ignores cancels", waits=True)
    waiting = asyncio.ensure_future(backend.consumer(["q"]).receive(1, 60.0))
    await asyncio.sleep(0)
    began = time.monotonic()
    await backend.aclose()
    assert time.monotonic() - began < 5.0
    with pytest.raises(ClosedError):
        await waiting
    assert "verbs of three ignore that they are cancelled" in caplog.text
    queue.released.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5.0)


async def test_a_take_that_ignores_cancels_brings_nothing_that_is_lost(monkeypatch) -> None:
    monkeypatch.setattr(_consumer, "SILENCE", 0.05)
    backend, queue = await wrong("ignores cancels", waits=True)
    consumer = backend.consumer(["q"])
    call = asyncio.ensure_future(consumer.receive(1, 60.0))
    await asyncio.sleep(0)
    call.cancel()
    await consumer.aclose()
    await backend.submitter().submit([message()])
    queue.rule = ""
    queue.released.set()
    (held,) = (await backend.consumer(["q"]).receive(1, 5.0)).deliveries
    assert held.message
    await backend.aclose()


async def test_traits_that_no_verb_keeps_are_refused_when_it_opens() -> None:
    with pytest.raises(PluginError, match=r"traits.lease\) and no renew"):
        await wrong("", lease=5.0)
    with pytest.raises(PluginError, match=r"traits.fuses\), but there is no table"):
        await wrong("", fuses=True)
    with pytest.raises(PluginError, match=r"traits.tells\), but there is no table, or no topic"):
        await wrong("", tells=True)
