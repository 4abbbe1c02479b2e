"""What a task tells while it runs: its parts, in order and none lost, and how far it is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Final

from tranship.errors import MessageTooLarge, ResultTimeout, StreamRestarted, TaskFailed
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeHandle, raised

__all__ = ["PartCases"]

_NEEDS: Final = {Capability.RECORDS, Capability.RESULTS}


class PartCases:
    """Part of the worker's suite: parts and progress."""

    @facade_case(
        "parts_come_in_order", level="capability", needs=_NEEDS, rationale="who shows a text as it is written needs it"
    )
    async def test_parts_come_in_order(self, facade: FacadeContext) -> None:
        """From generators of both kinds and from emit(): all of them, in order, while the task runs and after it."""
        gate = asyncio.Event()

        @task(name="kit.slow")
        async def slow() -> AsyncIterator[int]:
            yield 1
            await gate.wait()
            yield 2

        @task(name="kit.words")
        def words(count: int) -> Generator[Any, None, str]:
            for number in range(count):
                yield {"word": "w\u00f6rd", "number": number}
            return "the end"

        @task(name="kit.plain")
        async def plain(count: int) -> int:
            for number in range(count):
                current().emit(number)
            return count

        client, patience = await facade.client(), facade.context.patience
        await facade.work(slow, words, plain)
        handle = await client.submit(slow)
        parts = handle.stream(patience)
        assert await anext(parts) == 1, "the first part comes while the task runs"
        gate.set()
        assert [part async for part in parts] == [2]
        assert await handle.result(patience) is None
        handle = await client.submit(words, 3)
        expected = [{"word": "w\u00f6rd", "number": number} for number in range(3)]
        assert await _all(handle, patience) == expected
        assert await handle.result(patience) == "the end"
        assert await _all(client.handle(handle.id), patience) == expected, "who comes later gets the same"
        handle = await client.submit(plain, 5000)
        assert await _all(handle, patience) == list(range(5000))

    @facade_case(
        "parts_come_before_the_failure",
        level="capability",
        needs=_NEEDS,
        rationale="what was shown before an error is what explains it",
    )
    async def test_parts_come_before_the_failure(self, facade: FacadeContext) -> None:
        """First what was emitted, then how the task ended; what cannot be sent is the handler's error."""

        @task(name="kit.breaks")
        def breaks() -> Iterator[int]:
            yield 1
            raise ValueError("no more")

        @task(name="kit.huge")
        async def huge(size: int) -> str:
            try:
                current().emit("x" * size)
            except MessageTooLarge:
                return "refused"
            return "taken"

        client, patience = await facade.client(), facade.context.patience
        await facade.work(breaks, huge, max_message_size=100_000)
        handle = await client.submit(breaks)
        parts = handle.stream(patience)
        assert await anext(parts) == 1
        error = await raised(anext(parts), TaskFailed)
        assert "no more" in str(error)
        handle = await client.submit(huge, 200_000)
        assert await _all(handle, patience) == []
        assert await handle.result(patience) == "refused"

    @facade_case(
        "parts_begin_anew_with_a_retry",
        level="capability",
        needs=_NEEDS,
        rationale="half a text and then all of it must not look like one",
    )
    async def test_parts_begin_anew_with_a_retry(self, facade: FacadeContext) -> None:
        """Who has heard parts of a run is told that they are void; who asks again gets those of the next run alone."""
        gate = asyncio.Event()

        @task(name="kit.twice", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.1)))
        async def twice() -> AsyncIterator[str]:
            attempt = current().attempt
            yield f"first of {attempt}"
            if attempt == 0:
                await gate.wait()
                raise ValueError("once more")
            yield f"second of {attempt}"

        client, patience = await facade.client(), facade.context.patience
        await facade.work(twice)
        handle = await client.submit(twice)
        parts = handle.stream(patience)
        assert await anext(parts) == "first of 0"
        gate.set()
        await raised(anext(parts), StreamRestarted)
        assert await _all(handle, patience) == ["first of 1", "second of 1"]

    @facade_case(
        "parts_survive_an_outage",
        level="capability",
        needs={*_NEEDS, Capability.LEASE},
        rationale="a connection that goes must not cost a word of the text",
    )
    async def test_parts_survive_an_outage(self, facade: FacadeContext) -> None:
        """The connections of worker and client go again and again: all parts come, in order, once."""

        @task(name="kit.long")
        async def long(count: int) -> AsyncIterator[int]:
            for number in range(count):
                yield number
                await asyncio.sleep(0.01)

        proxies = [facade.context.proxy() for _ in range(2)]
        client = await facade.client(via=proxies[0])
        await facade.work(long, via=proxies[1], lease=30)
        handle = await client.submit(long, 150)
        got = []
        async for part in handle.stream(2 * facade.context.patience):
            got.append(part)
            if part % 40 == 20:
                for proxy in proxies:
                    proxy.reset()
        assert got == list(range(150))

    @facade_case(
        "progress_is_told", level="capability", needs=_NEEDS, rationale="a bar that stands still is taken for a failure"
    )
    async def test_progress_is_told(self, facade: FacadeContext) -> None:
        """info() has the latest, while the task runs."""
        gate = asyncio.Event()

        @task(name="kit.far")
        async def far() -> None:
            for number in itertools.count():
                current().progress(min(number, 7), 10, f"step {number}")
                if gate.is_set():
                    break
                await asyncio.sleep(0.01)

        client = await facade.client()
        await facade.work(far)
        handle = await client.submit(far)

        async def seven() -> bool:
            progress = (await handle.info()).progress
            return progress is not None and (progress.done, progress.total, progress.share) == (7, 10, 0.7)

        await facade.context.eventually(seven, "info() says how far it is")
        found = (await handle.info()).progress
        assert found is not None
        assert found.message.startswith("step ")
        gate.set()
        await handle.result(facade.context.patience)

    @facade_case(
        "stream_times_out", level="capability", needs=_NEEDS, rationale="who waits for what never comes has a bound"
    )
    async def test_stream_times_out(self, facade: FacadeContext) -> None:
        """A stream of a task that says nothing ends with ResultTimeout, and the task goes on."""
        gate = asyncio.Event()

        @task(name="kit.silent")
        async def silent() -> str:
            await gate.wait()
            return "done"

        client = await facade.client()
        await facade.work(silent)
        handle = await client.submit(silent)
        await raised(anext(handle.stream(0.3)), ResultTimeout)
        gate.set()
        assert await handle.result(facade.context.patience) == "done"


async def _all(handle: FacadeHandle, patience: float) -> list[Any]:
    return [part async for part in handle.stream(patience)]
