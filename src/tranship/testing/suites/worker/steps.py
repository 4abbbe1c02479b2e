"""What a task keeps from one run to the next: steps, what is done once in all, and sleeps."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any, Final

from tranship.envelope import TaskState
from tranship.errors import EncodeError, InvalidOptionError, TaskFailed
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.facades import raised

__all__ = ["StepCases"]

_NEEDS: Final = {Capability.RECORDS, Capability.RESULTS}
_RETRY: Final = RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.05))


class StepCases:
    """Part of the worker's suite: steps and sleeps."""

    @worker_case(
        "steps_are_done_once",
        level="capability",
        needs=_NEEDS,
        rationale="a card that is charged again because a mail could not be sent is the oldest complaint of all",
    )
    async def test_steps_are_done_once(self, facade: FacadeContext) -> None:
        """Over the retries of an ``async def`` and of a ``def`` handler; what a step raised is not kept."""
        calls: list[str] = []

        async def charge(amount: int) -> tuple[str, int]:
            calls.append("charge")
            return "paid", amount

        def plain(amount: int) -> tuple[str, int]:
            calls.append("plain")
            return "paid", amount

        def mail() -> None:
            calls.append("mail")
            if calls.count("mail") % 3:
                raise ValueError("no mail today")

        @task(name="kit.order", retry=_RETRY)
        async def order(amount: int) -> Any:
            paid = await current().step("charge", charge, amount)
            await current().step("mail", mail)
            return paid

        @task(name="kit.plain_order", retry=_RETRY)
        def plain_order(amount: int) -> Any:
            paid = current().step("charge", plain, amount=amount)
            current().step("mail", mail)
            return paid

        client, patience = await facade.client(), facade.context.patience
        await facade.work(order, plain_order)
        handle = await client.submit(order, 5)
        assert await handle.result(patience) == ["paid", 5], "as it is read back, also where it was not"
        assert calls == ["charge", "mail", "mail", "mail"]
        calls.clear()
        handle = await client.submit(plain_order, 6)
        assert await handle.result(patience) == ["paid", 6]
        assert calls == ["plain", "mail", "mail", "mail"]

    @worker_case(
        "steps_refuse_what_cannot_be_kept",
        level="capability",
        needs=_NEEDS,
        rationale="two steps of one name would have one value, and nobody would see it",
    )
    async def test_steps_refuse_what_cannot_be_kept(self, facade: FacadeContext) -> None:
        """A name twice, no name, a value that cannot be stored: the handler hears of each."""

        @task(name="kit.wrong")
        async def wrong() -> list[str]:
            found = [await current().step("first", str, 1)]
            for name, function, expected in (
                ("first", int, InvalidOptionError),
                ("", int, InvalidOptionError),
                ("object", object, EncodeError),
            ):
                try:
                    await current().step(name, function)
                except expected as error:
                    found.append(type(error).__name__)
            # Nothing was kept of it, and so its name is free.
            found.append(await current().step("object", str, 2))
            return found

        client = await facade.client()
        await facade.work(wrong)
        found = await (await client.submit(wrong)).result(facade.context.patience)
        assert found == ["1", "InvalidOptionError", "InvalidOptionError", "EncodeError", "2"]

    @worker_case(
        "steps_survive_a_worker",
        level="capability",
        needs=_NEEDS,
        rationale="a worker that goes in the middle is what steps are there for",
    )
    async def test_steps_survive_a_worker(self, facade: FacadeContext) -> None:
        """The worker goes after the first step: another one goes on with the second."""
        calls: list[str] = []
        goes, gate = asyncio.Event(), asyncio.Event()

        @task(name="kit.long")
        async def long() -> list[str]:
            first = await current().step("first", _noted, calls, "first")
            goes.set()
            await gate.wait()
            return [first, await current().step("second", _noted, calls, "second")]

        client, patience = await facade.client(), facade.context.patience
        worker = await facade.work(long)
        handle = await client.submit(long)
        await asyncio.wait_for(goes.wait(), patience)
        await facade.stop(worker, hurry=True)
        gate.set()
        await facade.work(long)
        assert await handle.result(patience) == ["first", "second"]
        assert calls == ["first", "second"]

    @worker_case(
        "steps_survive_an_outage",
        level="capability",
        needs={*_NEEDS, Capability.LEASE},
        rationale="an answer that is lost on the way must not have the card charged again",
    )
    async def test_steps_survive_an_outage(self, facade: FacadeContext) -> None:
        """The worker's connection goes again and again: each step is done once, and none fails."""
        calls: list[int] = []

        @task(name="kit.many")
        async def many(count: int) -> list[int]:
            return [await current().step(f"number {number}", one, number) for number in range(count)]

        async def one(number: int) -> int:
            calls.append(number)
            if number % 10 == 5:
                proxy.reset()
            await asyncio.sleep(0.01)
            return number

        proxy = facade.context.proxy()
        client = await facade.client()
        await facade.work(many, via=proxy, lease=30)
        handle = await client.submit(many, 40)
        assert await handle.result(2 * facade.context.patience) == list(range(40))
        assert calls == list(range(40))

    @worker_case(
        "once_is_done_once",
        level="capability",
        needs=_NEEDS,
        rationale="two tasks for one invoice must not send two",
    )
    async def test_once_is_done_once(self, facade: FacadeContext) -> None:
        """Many tasks at once, of both kinds, come to the same key: one does it, the others have its value."""
        calls: list[str] = []
        lock = threading.Lock()

        def send() -> str:
            with lock:
                calls.append("send")
            if len(calls) == 1:
                raise ValueError("the first one fails")
            return f"sent by {current().id}"

        @task(name="kit.invoice", retry=_RETRY)
        async def invoice(number: int) -> Any:
            return await current().once(f"invoice/{number}", send)

        @task(name="kit.plain_invoice", retry=_RETRY)
        def plain_invoice(number: int) -> Any:
            return current().once(f"invoice/{number}", send)

        client = await facade.client()
        await facade.work(invoice, plain_invoice)
        handles = await client.submit_many([invoice.call(7), plain_invoice.call(7)] * 4)
        found = [one.value for one in await client.collect(handles, facade.context.patience)]
        assert len(set(found)) == 1
        assert found[0] in {f"sent by {one.id}" for one in handles}
        assert calls == ["send", "send"]

    @worker_case(
        "steps_need_a_plain_function_in_a_thread",
        level="capability",
        needs=_NEEDS,
        rationale="a coroutine that nobody awaits would be kept as done",
    )
    async def test_steps_need_a_plain_function_in_a_thread(self, facade: FacadeContext) -> None:
        """A ``def`` handler with a coroutine function is told so."""

        async def mail() -> None:
            """Never runs."""

        @task(name="kit.plain")
        def plain() -> None:
            current().step("mail", mail)

        client = await facade.client()
        await facade.work(plain)
        error = await raised((await client.submit(plain)).result(facade.context.patience), TaskFailed)
        assert "coroutine function" in str(error)

    @worker_case(
        "sleeps_give_the_slot_back",
        level="capability",
        needs=_NEEDS,
        rationale="who waits for tomorrow must not keep a worker from today's work",
    )
    async def test_sleeps_give_the_slot_back(self, facade: FacadeContext) -> None:
        """Handlers of both kinds sleep, more often than a task may be delivered: others run in the meantime, each goes
        on after its steps when it is time, and once.
        """
        calls: list[str] = []

        @task(name="kit.sleeper")
        async def sleeper() -> float:
            began: float = await current().step("began", time.time)
            await current().sleep(0.8, "long")
            for number in range(3):
                await current().step(f"note {number}", _noted, calls, f"async {number}")
                await current().sleep(timedelta(seconds=0.1))
            await current().sleep_until(began)
            calls.append("async end")
            return time.time() - began

        @task(name="kit.plain_sleeper")
        def plain_sleeper() -> float:
            began: float = current().step("began", time.time)
            current().sleep(0.8, "long")
            for number in range(3):
                current().step(f"note {number}", _noted, calls, f"plain {number}")
                try:
                    current().sleep(0.1)
                except Exception:  # noqa: BLE001 - the point
                    calls.append("a failure")
            calls.append("plain end")
            return time.time() - began

        @task(name="kit.quick")
        async def quick() -> list[str]:
            return list(calls)

        client, patience = await facade.client(), facade.context.patience
        await facade.work(sleeper, plain_sleeper, quick, max_concurrent_tasks=1, max_deliveries=2)
        handles = [await client.submit(sleeper), await client.submit(plain_sleeper)]
        found = await (await client.submit(quick)).result(patience)
        assert "async end" not in found, "it ran while they slept"
        assert "plain end" not in found
        for handle in handles:
            assert await handle.result(2 * patience) > 0.8 + 3 * 0.1
        assert sorted(calls) == sorted(f"{kind} {what}" for kind in ("async", "plain") for what in (0, 1, 2, "end"))

    @worker_case(
        "sleeps_survive_a_worker",
        level="capability",
        needs=_NEEDS,
        rationale="a worker is replaced more often than a trial period is over",
    )
    async def test_sleeps_survive_a_worker(self, facade: FacadeContext) -> None:
        """The worker goes while the task sleeps; another one goes on with it, once the time is over."""
        calls: list[str] = []

        @task(name="kit.trial")
        async def trial() -> float:
            began: float = await current().step("began", time.time)
            calls.append("run")
            await current().sleep(0.5)
            await current().step("after", _noted, calls, "after")
            return time.time() - began

        client = await facade.client()
        worker = await facade.work(trial)
        handle = await client.submit(trial)
        await facade.until(lambda: bool(calls) and not worker.status().running, "it sleeps")
        await facade.stop(worker)
        await facade.work(trial)
        assert await handle.result(facade.context.patience) >= 0.5
        assert calls == ["run", "run", "after"]

    @worker_case(
        "sleeps_end_at_the_deadline",
        level="capability",
        needs=_NEEDS,
        rationale="a task that sleeps past its deadline would do nothing when it wakes",
    )
    async def test_sleeps_end_at_the_deadline(self, facade: FacadeContext) -> None:
        """It ends at once, and what is no length of time is an error."""

        @task(name="kit.late")
        async def late(seconds: float) -> None:
            await current().sleep(seconds)

        client, patience = await facade.client(), facade.context.patience
        await facade.work(late)
        handle = await client.submit(late.options(deadline_in=60), 3600)
        assert (await handle.wait(patience)).state is TaskState.EXPIRED
        error = await raised((await client.submit(late, -1)).result(patience), TaskFailed)
        assert "-1" in str(error)


def _noted(calls: list[str], what: str) -> str:
    calls.append(what)
    return what
