"""Ids that a result store is told of: what is known, for how long, and what becomes of it when something goes wrong."""

import asyncio
import uuid
from collections.abc import Callable

import pytest
from move_kit import envelope, move, opened, put

from tranship import AsyncClient, Client, Reject, TaskState, Worker, task
from tranship.connections import process_table
from tranship.errors import BrokerRefused, SubmitTimeout, TaskNotFound
from tranship.operations import Operator
from tranship.ports import Backend, Capability, KnownId, Level
from tranship.registry import Registry
from tranship.routing import failover, round_robin
from tranship.settings import BrokerURL, Settings
from tranship.testing.faults import Faults, FaultyRegistry


@task(name="ids.echo", queue="q")
async def echo(value: int) -> int:
    return value


VERDICTS: list[str] = []


@task(name="ids.picky", queue="q")
async def picky() -> str:
    if VERDICTS:
        raise Reject(VERDICTS.pop())
    return "fine"


def place() -> str:
    return f"memory://{uuid.uuid4().hex}"


def told(url: str) -> str:
    return f"{url}?knows_ids=true"


def make(url: str) -> Backend:
    return Registry().create(url, shared=process_table().shared)


def test_what_it_declares() -> None:
    with Client(told(place())) as client:
        support = client.capabilities[Capability.KNOWS_IDS]
        assert (support.level, dict(support.properties)) == (Level.EMULATED, {"told": True})
    with Client(place()) as client:
        assert not client.capabilities[Capability.KNOWS_IDS].properties


class TestAtAnotherStore:
    """Where results are in a store of their own, nothing else knows an id."""

    @pytest.fixture
    def urls(self, tmp_path) -> dict[str, str]:
        return {"url": place(), "result_url": told(f"sqlite:///{tmp_path}/results.db")}

    def test_pending_is_told_from_unknown(self, urls) -> None:
        with Client(**urls) as client, Client(**urls) as other:
            handle = client.submit(echo, 1)
            assert other.handle(handle.id).state() is TaskState.PENDING
            assert other.handle("nope").state() is TaskState.UNKNOWN
            with pytest.raises(TaskNotFound):
                other.handle("nope").result(20)
            Worker(**urls, tasks=[echo]).run_until_idle(20)
            assert other.handle(handle.id).result(5) == 1

    def test_a_duplicate_is_the_other_task(self, urls) -> None:
        with Client(**urls) as client:
            first = client.submit(echo.options(dedup_key="once"), 1)
            second = client.submit(echo.options(dedup_key="once", task_id="second"), 1)
            assert second.id == first.id
            assert client.handle("second").state() is TaskState.UNKNOWN
            assert first.state() is TaskState.PENDING

    def test_a_replayed_task_is_known_however_long_it_was_dead(self, urls) -> None:
        VERDICTS[:] = ["not-today"]
        with Client(**urls) as client, Operator(**urls) as operator:
            handle = client.submit(picky)
            Worker(**urls, tasks=[picky]).run_until_idle(20)
            assert handle.wait(5).state is TaskState.DEAD_LETTERED
            asyncio.run(self.forgets(urls["result_url"], handle.id))
            assert client.handle(handle.id).state() is TaskState.UNKNOWN
            assert operator.replay() != []
            assert client.handle(handle.id).state() is TaskState.PENDING
            Worker(**urls, tasks=[picky]).run_until_idle(20)
            assert client.handle(handle.id).result(5) == "fine"

    @staticmethod
    async def forgets(url: str, task_id: str) -> None:
        async with opened(url) as store:
            await store.results().forget_many([task_id])

    def test_who_keeps_no_result_is_not_told_of(self, urls) -> None:
        with Client(**urls) as client:
            handle = client.submit(echo.options(store_result=False, task_id="quiet"), 1)
            assert client.handle(handle.id).state() is TaskState.UNKNOWN


class TestWhatGoesWrong:
    @pytest.fixture
    def faults(self) -> Faults:
        return Faults()

    @pytest.fixture
    def client(self, faults: Faults) -> Callable[..., AsyncClient]:
        url = told(place())

        def made(**settings) -> AsyncClient:
            chosen = Settings(broker_url=BrokerURL.parse(url), **settings)
            return AsyncClient(settings=chosen, registry=FaultyRegistry(make, faults))

        return made

    async def test_a_store_that_is_away_for_a_moment_is_waited_for(self, client, faults) -> None:
        async with client() as mine:
            faults.fail("keep_ids", times=2)
            handle = await mine.submit(echo, 1)
            assert faults.calls["submit"] == 1, "nothing is submitted that is not known"
            assert await handle.state() is TaskState.PENDING

    async def test_one_that_stays_away_keeps_tasks_from_being_submitted(self, client, faults) -> None:
        async with client(submit_timeout=0.2) as mine:
            faults.fail("keep_ids", times=-1)
            with pytest.raises(SubmitTimeout):
                await mine.submit(echo, 1)
            assert faults.calls["submit"] == 0

    async def test_an_error_for_good_is_told_at_once(self, client, faults) -> None:
        async with client() as mine:
            faults.fail("keep_ids", BrokerRefused)
            with pytest.raises(BrokerRefused):
                await mine.submit(echo, 1)

    async def test_an_id_that_could_not_be_taken_back_is_no_error(self, client, faults) -> None:
        async with client() as mine:
            faults.refused = lambda _message: BrokerRefused("no")
            faults.fail("drop_ids")
            with pytest.raises(BrokerRefused):
                await mine.submit(echo.options(task_id="mine"), 1)
            faults.refused = lambda _message: None
            assert await mine.handle("mine").state() is TaskState.PENDING, "it is known until its time is over"
            assert await (await mine.submit(echo.options(task_id="mine"), 1)).state() is TaskState.PENDING

    async def test_a_refused_retry_leaves_the_first_one_known(self, client, faults) -> None:
        async with client() as mine:
            await mine.submit(echo.options(task_id="mine"), 1)
            faults.refused = lambda _message: BrokerRefused("no")
            with pytest.raises(BrokerRefused):
                await mine.submit(echo.options(task_id="mine"), 1)
            assert await mine.handle("mine").state() is TaskState.PENDING


async def test_an_id_lasts_from_when_the_task_may_be_taken_and_no_shorter_than_the_store_says() -> None:
    async with opened(f"{told(place())}&result_ttl=100") as backend:
        written = []
        rows = backend.results()._rows  # type: ignore[attr-defined]
        create = rows.create

        async def noted(given):
            written.extend(given)
            return await create(given)

        rows.create = noted
        now = backend.clock.now()  # type: ignore[attr-defined]
        keeper = backend.results()
        tasks = [KnownId("a"), KnownId("b", ttl=1.0), KnownId("c", ttl=500.0), KnownId("d", ready=now + 1000)]
        assert list(await keeper.keep_ids(tasks)) == [True] * 4  # type: ignore[attr-defined]
        assert [round(one.ttl, -1) for one in written] == [100, 100, 500, 1100]
        assert list(await keeper.keep_ids(tasks[:1])) == [False]  # type: ignore[attr-defined]
        states = [one.state for one in await keeper.get_many(["a", "d", "e"])]
        assert states == [TaskState.PENDING, TaskState.SCHEDULED, TaskState.UNKNOWN]


@pytest.mark.parametrize("join", [failover, round_robin])
@pytest.mark.parametrize("second", [told, str], ids=["both", "one"])
def test_several_brokers_know_what_was_submitted_to_any_of_them(join, second) -> None:
    url = join(told(place()), second(place()))
    with Client(url) as client, Client(url) as other:
        assert client.capabilities.told_of_ids
        handles = client.submit_many([echo.call(number) for number in range(6)])
        assert {other.handle(one.id).state() for one in handles} == {TaskState.PENDING}
        assert other.handle("nope").state() is TaskState.UNKNOWN
        Worker(url, tasks=[echo]).run_until_idle(20)
        assert [other.handle(one.id).result(5) for one in handles] == list(range(6))


def test_what_is_moved_is_known_where_it_arrives() -> None:
    source, target = place(), told(place())
    mine = envelope(1)

    async def there() -> tuple[TaskState, list[int]]:
        async with opened(target) as backend:
            (found,) = await backend.results().get_many([mine.id])
            return found.state, [sum(one.ready.values()) for one in await backend.inspector().queues()]

    asyncio.run(put(source, mine))
    assert move(source, target).moved == 1
    assert asyncio.run(there()) == (TaskState.PENDING, [1])
    # Moved away and back again: a row is no proof that it is there.
    assert move(target, source).moved == 1
    assert move(source, target).moved == 1
    assert asyncio.run(there()) == (TaskState.PENDING, [1])
