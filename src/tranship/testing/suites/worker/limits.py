"""Limits by key in the whole fleet: how many run at once, how often they start, in which order, shared among whom."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any, Final

from tranship.envelope import TaskState
from tranship.errors import InvalidArgumentsError, TaskFailed
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, named, task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case
from tranship.testing.facades import raised

__all__ = ["LimitCases"]

_NEEDS: Final = {Capability.RECORDS, Capability.RESULTS}
_DELAYS: Final = {*_NEEDS, Capability.DELAY}
_TWICE: Final = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.05))


class LimitCases:
    """Part of the worker's suite: limits, rates, order and fair shares by key."""

    @facade_case(
        "limit_by_key_holds_in_the_fleet",
        level="capability",
        needs=_NEEDS,
        rationale="a customer's account that takes two calls at once must not get four because there are two workers",
    )
    async def test_limit_by_key_holds_in_the_fleet(self, facade: FacadeContext) -> None:
        """Two workers, tasks of three keys, by function and by name, alone and many at once: never more than two of a
        key run, all of them do, and whoever waits is no unknown task.
        """
        running, most = Counter[str](), Counter[str]()

        @task(name="kit.limited", limit=2, key=lambda account: account)
        async def limited(account: str, number: int = 0) -> int:
            running[account] += 1
            most[account] = max(most[account], running[account])
            await asyncio.sleep(0.01)
            running[account] -= 1
            return number

        client, patience = await facade.client(), facade.context.patience
        handles = await client.submit_many(limited.call(f"kéy {number % 3}", number) for number in range(15))
        states = {await one.state() for one in handles}
        assert states == {TaskState.PENDING}, "of those that wait, too"
        handles += [await client.submit(limited, f"kéy {number % 3}", number=number) for number in range(15, 18)]
        handles += [await client.submit(named("kit.limited"), f"kéy {number % 3}", number) for number in range(18, 21)]
        for _ in range(2):
            await facade.work(limited, max_concurrent_tasks=10)
        assert [await one.result(2 * patience) for one in handles] == list(range(21))
        assert dict(most) == {f"kéy {number}": 2 for number in range(3)}

    @facade_case(
        "order_by_key_is_kept",
        level="capability",
        needs=_DELAYS,
        rationale="an account that is closed before it was opened is what order is there for",
    )
    async def test_order_by_key_is_kept(self, facade: FacadeContext) -> None:
        """Each starts when the one before it has ended, in whatever state: also one that fails, one that is tried
        again later, one that is cancelled, and one whose time is over.
        """
        events: list[tuple[str, str, int]] = []

        @task(name="kit.ordered", ordered=True, key=lambda account: account, retry=_TWICE)
        async def ordered(account: str, number: int) -> int:
            events.append(("begins", account, number))
            await asyncio.sleep(0.01)
            events.append(("ends", account, number))
            if number == 1 or (number == 2 and current().attempt == 0):
                raise ValueError("it fails")
            return number

        client, patience = await facade.client(), facade.context.patience
        handles = [await client.submit(ordered, "b", number) for number in range(2)]
        handles += await client.submit_many(ordered.call("a", number) for number in range(4))
        gone = await client.submit(ordered.options(deadline_in=0.01), "a", 90)
        handles.append(await client.submit(ordered, "a", 4))
        over = await client.submit(ordered, "a", 91)
        handles.append(await client.submit(ordered, "a", 5))
        if client.native.capabilities.has(Capability.CONTROL):
            await over.cancel()
        for _ in range(2):
            await facade.work(ordered, max_concurrent_tasks=10)
        results = await client.collect([*handles, gone, over], 3 * patience)
        failed = [not one.success for one in results[:8]]
        assert failed == [False, True, False, True, False, False, False, False]
        assert results[8].state is TaskState.EXPIRED
        wanted = {
            "a": [number for one in (0, 1, 1, 2, 2, 3, 4, 5) for number in (one, one)],
            "b": [0, 0, 1, 1, 1, 1],
        }
        if results[9].state is not TaskState.CANCELLED:
            wanted["a"][-2:-2] = [91, 91]
        for account, numbers in wanted.items():
            seen = [number for _, one, number in events if one == account]
            assert seen == numbers, f"{account}: {seen}"

    @worker_case(
        "order_by_key_survives_a_worker",
        level="capability",
        needs=_NEEDS,
        rationale="a deployment in the middle of a line must not have the next one overtake",
    )
    async def test_order_by_key_survives_a_worker(self, facade: FacadeContext) -> None:
        """A worker goes while one of a line runs, and gives it back: another worker begins with that one."""
        begun: list[int] = []
        goes, gate = asyncio.Event(), asyncio.Event()

        @task(name="kit.line", ordered=True)
        async def line(number: int) -> int:
            begun.append(number)
            goes.set()
            await gate.wait()
            return number

        client, patience = await facade.client(), facade.context.patience
        handles = await client.submit_many(line.call(number) for number in range(4))
        worker = await facade.work(line)
        await asyncio.wait_for(goes.wait(), patience)
        await facade.stop(worker, hurry=True)
        gate.set()
        await facade.work(line)
        assert [await one.result(patience) for one in handles] == [0, 1, 2, 3]
        assert begun == [0, 0, 1, 2, 3]

    @worker_case(
        "rate_by_key_holds_in_the_fleet",
        level="capability",
        needs=_NEEDS,
        rationale="an interface that takes twenty calls a second locks out whoever sends more",
    )
    async def test_rate_by_key_holds_in_the_fleet(self, facade: FacadeContext) -> None:
        """Two workers, two keys: no more than the burst start at once, and from then on no more than the rate."""
        rate, burst = 20.0, 3
        starts: defaultdict[str, list[float]] = defaultdict(list)

        @task(name="kit.rated", rate=rate, burst=burst, key=lambda account: account)
        async def rated(account: str) -> None:
            starts[account].append(time.monotonic())

        client, patience = await facade.client(), facade.context.patience
        handles = await client.submit_many(rated.call(account) for account in "ab" * 12)
        for _ in range(2):
            await facade.work(rated, max_concurrent_tasks=20)
        for one in handles:
            await one.result(patience)
        for times in starts.values():
            times.sort()
            assert len(times) == 12
            # A start may be late by itself, and the next one on time again.
            slack = 0.2
            assert times[-1] - times[0] >= (12 - burst) / rate - slack, times

    @worker_case(
        "fair_shares_in_one_queue",
        level="capability",
        needs=_NEEDS,
        rationale="a tenant who sends ten thousand tasks at once must not stop all the others",
    )
    async def test_fair_shares_in_one_queue(self, facade: FacadeContext) -> None:
        """One tenant has many tasks waiting when two others come with a few: they are served in turn."""
        begun: list[str] = []

        @task(name="kit.fair", limit=2, fair=lambda tenant: tenant)
        async def fair(tenant: str) -> None:
            begun.append(tenant)
            await asyncio.sleep(0.01)

        client, patience = await facade.client(), facade.context.patience
        handles = await client.submit_many(fair.call("large") for _ in range(30))
        handles += await client.submit_many(fair.call(tenant) for tenant in ("small", "tiny") * 4)
        await facade.work(fair, max_concurrent_tasks=10)
        for one in handles:
            await one.result(patience)
        assert Counter(begun) == {"large": 30, "small": 4, "tiny": 4}
        # Two have a slot before the others come; then it is everybody's turn, one after the other.
        last = max(at for at, tenant in enumerate(begun) if tenant != "large")
        assert last <= 2 + 3 * 4 + 2, begun

    @worker_case(
        "limit_by_key_refuses_bad_keys",
        level="capability",
        needs=_NEEDS,
        rationale="a key that is wrong must be told to who submits, and must not stop a worker",
    )
    async def test_limit_by_key_refuses_bad_keys(self, facade: FacadeContext) -> None:
        """A key function that raises, or returns no text: an error for who submits, FAILURE for who only knows the
        name; and the worker goes on.
        """

        @task(name="kit.keyed", limit=1, key=lambda account: {"": 5}.get(account, account.lower()))
        async def keyed(account: Any) -> Any:
            return account

        client, patience = await facade.client(), facade.context.patience
        for wrong in ("", 7):
            error: Any = await raised(client.submit(keyed, wrong), InvalidArgumentsError)
            assert "key of task kit.keyed" in str(error)
        await facade.work(keyed)
        for wrong in ("", 7):
            handle = await client.submit("kit.keyed", wrong)
            refused = await raised(handle.result(patience), TaskFailed)
            assert "key of task kit.keyed" in str(refused)
        assert await (await client.submit("kit.keyed", "Right")).result(patience) == "Right"
