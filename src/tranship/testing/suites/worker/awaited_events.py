"""Events that tasks wait for: each resumes its task once, whoever runs it by then."""

from __future__ import annotations

from typing import Any, Final

from tranship.errors import EncodeError, InvalidOptionError
from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case
from tranship.testing.facades import raised

__all__ = ["AwaitedEventCases"]

_NEEDS: Final = {Capability.RECORDS, Capability.RESULTS}


class AwaitedEventCases:
    """Part of the worker's suite: events that tasks wait for."""

    @facade_case(
        "events_resume_once",
        level="capability",
        needs=_NEEDS,
        rationale="an approval that is lost, or pays twice, is worse than none",
    )
    async def test_events_resume_once(self, facade: FacadeContext) -> None:
        """Of tasks in both kinds of handler one is sent its event before it begins, the others while they wait without
        a slot; the first event of a name counts.
        """
        calls: list[str] = []

        def pay(who: str) -> str:
            calls.append(f"paid by {who}")
            return who

        @task(name="kit.approval")
        async def approval(name: str) -> Any:
            said = await current().wait_event("approved")
            await current().step("pay", pay, name)
            return said

        @task(name="kit.plain_approval")
        def plain_approval(name: str) -> Any:
            said = current().wait_event("approved", timeout=600)
            current().step("pay", pay, name)
            return said

        @task(name="kit.quick")
        async def quick() -> list[str]:
            return list(calls)

        client, patience = await facade.client(), facade.context.patience
        handles = [await client.submit(approval, "first")]
        assert await handles[0].send_event("approved", {"by": "first"})
        await facade.work(approval, plain_approval, quick, max_concurrent_tasks=1)
        assert await handles[0].result(patience) == {"by": "first"}
        handles += [await client.submit(approval, "second"), await client.submit(plain_approval, "third")]
        assert await (await client.submit(quick)).result(patience) == ["paid by first"], (
            "the others wait without a slot"
        )
        for handle, name in zip(handles, ("first", "second", "third"), strict=True):
            assert await handle.send_event("approved", {"by": name}) is (name != "first")
            assert not await client.call(client.native.send_event, handle.id, "approved", "too late")
        assert [await one.result(patience) for one in handles] == [
            {"by": name} for name in ("first", "second", "third")
        ]
        assert sorted(calls) == ["paid by first", "paid by second", "paid by third"]

    @worker_case(
        "events_survive_a_worker",
        level="capability",
        needs=_NEEDS,
        rationale="people answer when the worker that asked has long been replaced",
    )
    async def test_events_survive_a_worker(self, facade: FacadeContext) -> None:
        """The event comes while there is no worker at all."""
        calls: list[str] = []

        @task(name="kit.asks")
        async def asks() -> Any:
            calls.append("run")
            return await current().wait_event("answer")

        client = await facade.client()
        worker = await facade.work(asks)
        handle = await client.submit(asks)
        await facade.until(lambda: bool(calls) and not worker.status().running, "it waits")
        await facade.stop(worker)
        assert await handle.send_event("answer", 42)
        await facade.work(asks)
        assert await handle.result(facade.context.patience) == 42

    @worker_case(
        "events_time_out",
        level="capability",
        needs=_NEEDS,
        rationale="who reminds and waits again must not be told two stories when the task runs once more",
    )
    async def test_events_time_out(self, facade: FacadeContext) -> None:
        """It does not come in time; the same event is waited for again, and comes. The first wait stays over."""
        calls: list[str] = []

        @task(name="kit.reminds")
        async def reminds() -> list[Any]:
            found: list[Any] = []
            for seconds in (0.3, 600):
                try:
                    found.append(await current().wait_event("answer", timeout=seconds))
                except TimeoutError:
                    found.append(await current().step("remind", _noted, calls, "reminded"))
            return found

        client, patience = await facade.client(), facade.context.patience
        await facade.work(reminds)
        handle = await client.submit(reminds)
        await facade.until_long(calls, 1)
        assert await handle.send_event("answer")
        assert await handle.result(patience) == ["reminded", None]
        assert calls == ["reminded"]

    @facade_case(
        "events_refuse_what_cannot_be_sent",
        level="capability",
        needs=_NEEDS,
        rationale="an event that nobody can read would be waited for for ever",
    )
    async def test_events_refuse_what_cannot_be_sent(self, facade: FacadeContext) -> None:
        """A value that cannot be stored, no name, no id: nothing is sent."""
        client = await facade.client()
        handle = client.handle("somebody")
        await raised(handle.send_event("answer", object()), EncodeError)
        await raised(handle.send_event(""), InvalidOptionError)
        await raised(client.call(client.native.send_event, "", "answer"), InvalidOptionError)
        assert await handle.send_event("answer"), "nothing was sent before"


def _noted(calls: list[str], what: str) -> str:
    calls.append(what)
    return what
