"""Many callers of one client at once, and callers that go away."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from tranship.connections import process_table
from tranship.errors import BusyError, ClosedError, SubmitUnknown, TranshipError
from tranship.ports import Capability
from tranship.testing.context import ids_of, task_id
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeClient, FacadeHandle, in_thread, raised
from tranship.testing.suites.facade.submit import echo

__all__ = ["ConcurrentSubmitCases"]

PUSH: Final = {Capability.RESULT_PUSH}


class ConcurrentSubmitCases:
    """Part of the facade's suite."""

    @facade_case("submit_concurrent_threads", level="core", rationale="web servers have threads", kinds=["blocking"])
    async def test_submit_concurrent_threads(self, facade: FacadeContext) -> None:
        """16 threads submit 200 tasks each with one client that nobody opened: all arrive once, in few round trips."""
        client = facade.make_client()
        barrier = asyncio.Barrier(16)

        def submit_all(number: int) -> list[str]:
            return [client.native.submit(echo, [number, one]).id for one in range(200)]

        async def caller(number: int) -> list[str]:
            await barrier.wait()
            return await in_thread(submit_all, number)

        ids = [one for part in await asyncio.gather(*map(caller, range(16))) for one in part]
        await _all_arrive_once(facade, ids, 3200)
        assert facade.client_faults.calls["submit"] < 3200, "no two submits were sent together"

    @facade_case(
        "submit_concurrent_loops",
        level="core",
        needs=PUSH,
        rationale="a process may have two loops",
        kinds=["async"],
    )
    async def test_submit_concurrent_loops(self, facade: FacadeContext) -> None:
        """Two more loops in threads of their own submit and wait with the client of this one."""
        client = await facade.client()
        await facade.work(echo)

        async def use(start: int) -> list[object]:
            handles = [await client.native.submit(echo, number) for number in range(start, start + 50)]
            return [await handle.result(facade.context.patience) for handle in handles]

        found = await asyncio.gather(in_thread(asyncio.run, use(0)), in_thread(asyncio.run, use(1000)), use(2000))
        assert list(found) == [list(range(start, start + 50)) for start in (0, 1000, 2000)]

    @facade_case("submit_coalesces", level="core", rationale="a hundred requests are not a hundred round trips")
    async def test_submit_coalesces(self, facade: FacadeContext) -> None:
        """While a round trip is under way, what comes meanwhile travels together."""
        client = await facade.client()
        begun: list[int] = []

        def submit(number: int) -> Any:
            begun.append(number)
            return client.native.submit(echo, number)

        async def all_begun() -> bool:
            return len(begun) == 100

        facade.client_faults.stall("submit", times=-1)
        handles = [facade.context.start(client.call(submit, number)) for number in range(100)]
        await facade.context.eventually(all_begun, "everybody submits")
        facade.client_faults.release("submit")
        ids = [(await handle).id for handle in handles]
        assert facade.client_faults.calls["submit"] <= 20, f"{facade.client_faults.calls['submit']} round trips"
        await _all_arrive_once(facade, ids, 100)

    @facade_case(
        "submit_cancelled_mid_write",
        level="capability",
        needs={Capability.RESULTS},
        rationale="a cancelled request must not mix up the answers of the next ones (redis-py#2665)",
        kinds=["async"],
    )
    async def test_submit_cancelled_mid_write(self, facade: FacadeContext) -> None:
        """Submits and waits are cancelled at random moments; the next hundred get their own answers."""
        client = await facade.client()
        await facade.work(echo)
        for _ in range(60):
            victims = [facade.context.start(_submit_and_wait(client, -number)) for number in range(3)]
            for _ in range(random.randrange(8)):
                await asyncio.sleep(0)
            for victim in victims:
                victim.cancel()
            await asyncio.gather(*victims, return_exceptions=True)
        found = await asyncio.gather(
            *(_submit_and_wait(client, number, facade.context.patience) for number in range(100))
        )
        assert found == list(range(100))

    @facade_case(
        "submit_interrupted_by_submit",
        level="core",
        rationale="a signal's handler and __del__ submit in the middle of a submit",
        kinds=["blocking"],
    )
    async def test_submit_interrupted_by_submit(self, facade: FacadeContext) -> None:
        """Each call and return within a submit is interrupted, once, by a submit in the same thread: all arrive."""
        client = facade.make_client()
        ids = await in_thread(_interrupt_everywhere, lambda: client.native.submit(echo, 0).id)
        assert len(ids) > 20, f"only {len(ids)} submits: nothing was interrupted"
        await _all_arrive_once(facade, ids, len(ids))

    @facade_case(
        "submit_on_own_thread_refused",
        level="core",
        rationale="the garbage collector runs __del__ on any thread",
        kinds=["blocking"],
    )
    async def test_submit_on_own_thread_refused(self, facade: FacadeContext) -> None:
        """On the I/O loop's own thread a blocking submit is a BusyError, and nobody waits for it."""
        client = await facade.client()
        portal = process_table().portal()

        async def submit() -> str:
            return str(client.native.submit(echo, 1).id)

        await raised(asyncio.wrap_future(portal.call(submit())), BusyError)
        assert (await client.submit(echo, 2)).id

    @facade_case("submit_after_close", level="core", rationale="a closed client must say so")
    async def test_submit_after_close(self, facade: FacadeContext) -> None:
        """ClosedError from every verb; also for one that was never opened."""
        for client in (await facade.client(), facade.make_client()):
            await client.close()
            handle = client.handle("anything")
            await raised(client.submit(echo, 1), ClosedError)
            await raised(client.submit_many([echo.call(1)]), ClosedError)
            await raised(client.cancel("key"), ClosedError)
            await raised(client.forget(["anything"]), ClosedError)
            await raised(handle.result(1), ClosedError)
            for verb in (client.ping, client.open, handle.state):
                await raised(verb(), ClosedError)

    @facade_case("submit_while_closing", level="core", rationale="a request at shutdown must end, one way or the other")
    async def test_submit_while_closing(self, facade: FacadeContext) -> None:
        """Closed under a stalled submit and under a stream of them: each ends within the submit timeout."""
        client = await facade.client(submit_timeout=1.0)
        facade.client_faults.stall("submit")
        hanging = facade.context.start(client.submit(echo, 0))
        await facade.until(lambda: facade.client_faults.hit["submit"] >= 1, "the submit hangs")
        streams = [facade.context.start(_until_closed(client)) for _ in range(4)]
        await facade.until_called("submit", 20)
        await asyncio.wait_for(client.close(), facade.context.patience)
        ids = [one for stream in streams for one in await asyncio.wait_for(stream, facade.context.patience)]
        error = await raised(asyncio.wait_for(hanging, facade.context.patience), TranshipError)
        assert isinstance(error, SubmitUnknown | ClosedError), repr(error)
        consumer = (await facade.context.open()).consumer(["q"])
        got: set[str] = set()
        while not set(ids) <= got:
            got |= {task_id(one) for one in await facade.context.receive(consumer)}


def _interrupt_everywhere(submit: Callable[[], str]) -> list[str]:
    """Submit again and again: each time the next call or return within it is interrupted by another submit."""
    ids: list[str] = []
    for number in range(10_000):
        left = number

        def interrupt(_frame: FrameType, _event: str, _argument: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                sys.setprofile(None)
                ids.append(submit())

        sys.setprofile(interrupt)
        try:
            ids.append(submit())
        finally:
            sys.setprofile(None)
        if left >= 0:
            break
    return ids


async def _until_closed(client: FacadeClient) -> list[str]:
    """Submit until the client says that it is closed; return the ids of what was acknowledged."""
    ids = []
    while True:
        try:
            ids.append((await client.submit(echo, 1)).id)
        except ClosedError:
            return ids


async def _submit_and_wait(client: FacadeClient, value: int, timeout: float = 30.0) -> object:
    handle: FacadeHandle = await client.submit(echo, value)
    return await handle.result(timeout)


async def _all_arrive_once(facade: FacadeContext, ids: list[str], count: int) -> None:
    assert len(set(ids)) == count, f"{len(set(ids))} different ids for {count} submits"
    backend = await facade.context.open()
    consumer = backend.consumer(["q"])
    got: list[str] = []
    while len(got) < count:
        first = await facade.context.receive(consumer, 1)
        got += ids_of(first) + ids_of((await consumer.receive(500, 0.0)).deliveries)
    assert sorted(got) == sorted(ids)
    await facade.context.quiet(consumer, 0.1)
