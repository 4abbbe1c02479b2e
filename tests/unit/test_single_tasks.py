"""Tasks of which there is one at a time: bad input, and programs that die in the middle of a submit."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tranship import AsyncClient, Client, Middleware, TaskState, Worker, named, task
from tranship.client import _single
from tranship.envelope import Envelope, Receipt
from tranship.errors import InvalidOptionError, MessageTooLarge, UnsupportedError
from tranship.ports import Record
from tranship.testing.background import BackgroundWorker


@task(name="single.refresh", queue="single", unique=True)
def refresh(user: str, how: dict[str, int] | None = None) -> str:
    """Return the user."""
    return user


@task(name="single.save", queue="single", debounce=0.3, debounce_by=["name"])
def save(name: str, version: str) -> str:
    """Return the version."""
    return version


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A place in memory of the test's own."""
    return f"memory://{request.node.name}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"debounce": 0}, "debounce is 0"),
        ({"debounce": -1}, "debounce is -1"),
        ({"debounce_by": ["user"]}, "no debounce"),
        ({"debounce": 1, "unique": True}, "debounce and unique"),
        ({"debounce": 1, "delay": 5}, "debounce and delay"),
        ({"unique": True, "dedup_key": "k"}, "unique and dedup_key"),
        ({"unique": "user"}, "names of arguments"),
        ({"unique": []}, "names of arguments"),
        ({"unique": True, "store_result": False}, "store_result"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """They are refused where the task is made."""
    with pytest.raises(InvalidOptionError, match=words):
        task(name="single.never", **options)(lambda user: user)


def test_a_field_that_is_no_argument(url: str) -> None:
    """It is named, with those that there are; nothing is sent."""
    with Client(url) as client, pytest.raises(InvalidOptionError, match=r"counts 'users'.*it has: user, how"):
        client.submit(refresh.options(unique=["users"]), "ann")


def test_what_is_the_same(url: str) -> None:
    """Arguments by place or name, defaults, and the order of a mapping make no difference; options may change it."""
    with Client(url) as client:
        first = client.submit(refresh, "ann")
        same = [client.submit(refresh, user="ann"), client.submit(refresh, "ann", None)]
        assert {one.id for one in same} == {first.id}
        one, two = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
        assert client.submit(refresh, "ann", one).id == client.submit(refresh, "ann", two).id != first.id
        assert not client.submit(refresh.options(unique=False), "ann").duplicate
        elsewhere = named("single.elsewhere", unique=True)
        assert client.submit(elsewhere, 1).id == client.submit(elsewhere, 1).id != client.submit(elsewhere, 2).id


def test_who_is_forgotten_or_cancelled_does_not_count(url: str) -> None:
    """Where the store knows."""
    with Client(url) as client:
        first = client.submit(refresh, "ann")
        first.cancel()
        second = client.submit(refresh, "ann")
        assert second.id != first.id
        Worker(url, tasks=[refresh]).run_until_idle()
        second.forget()
        assert client.submit(refresh, "ann").id != second.id


def test_a_submit_that_was_refused_does_not_count(url: str) -> None:
    """The next one need not wait for it."""
    with Client(f"{url}?max_message_size=2000") as client:
        with pytest.raises(MessageTooLarge):
            client.submit(refresh.options(unique=["user"]), "ann", {"x" * 3000: 1})
        assert not client.submit(refresh.options(unique=["user"]), "ann").duplicate


class Dying(Exception):
    """A program dies."""


def test_a_program_that_dies_in_its_submit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its claim is waited for, and then forgotten: the task is submitted, and is not lost."""
    monkeypatch.setattr(_single, "CLAIMED", 0.5)

    async def main() -> None:
        async with AsyncClient(url) as client:
            single = refresh.single
            assert single is not None
            key = single.key(refresh, ("ann",), {})

            async def die(link: Any) -> bool:
                value = b'["somebody", 1.0, false]'
                return bool(await link.records().write(Record(key, value, ttl=0.5)))

            assert await client._on_link(die)
            began = time.monotonic()
            handle = await client.submit(refresh, "ann")
            assert not handle.duplicate
            assert time.monotonic() - began > 0.3

    asyncio.run(main())


async def test_a_submit_that_is_held_up_ends_no_later_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is later is decided before anything is sent."""
    counted, go_on, real = asyncio.Event(), asyncio.Event(), _single._Debounced._count

    async def held_up(self: Any) -> Any:
        found = await real(self)
        if not counted.is_set():
            counted.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(_single._Debounced, "_count", held_up)
    with BackgroundWorker(Worker(url, tasks=[save])):
        async with AsyncClient(url) as client:
            first = asyncio.create_task(client.submit(save, "a", "first"))
            await counted.wait()
            second = await client.submit(save, "a", "second")
            go_on.set()
            assert await second.result(20) == "second"
            assert (await (await first).wait(20)).state is TaskState.CANCELLED


def test_one_that_is_refused_leaves_the_one_before_to_the_next(url: str) -> None:
    """It has not ended that, and the next submit does."""
    with Client(f"{url}?max_message_size=2000") as client, BackgroundWorker(Worker(url, tasks=[save])):
        first = client.submit(save.options(debounce=600), "a", "first")
        with pytest.raises(MessageTooLarge):
            client.submit(save, "a", "x" * 3000)
        assert first.state() is not TaskState.CANCELLED
        assert client.submit(save, "a", "third").result(20) == "third"
        assert first.wait(20).state is TaskState.CANCELLED


class Seeing(Middleware):
    """Counts what is submitted."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []

    async def submit(self, envelope: Envelope, call_next: Any) -> Receipt:
        """Around a submit."""
        receipt: Receipt = await call_next(envelope)
        self.receipts.append(receipt)
        return receipt


def test_middleware_sees_who_was_first(url: str) -> None:
    """As for any duplicate."""
    seeing = Seeing()
    with Client(url, middleware=[seeing]) as client:
        first, second = client.submit(refresh, "ann"), client.submit(refresh, "ann")
    assert first.id == second.id
    assert [one.duplicate_of for one in seeing.receipts] == [None, first.id]


def test_a_step_of_a_workflow_cannot_be_single(url: str) -> None:
    """Said before anything is sent."""
    with Client(url) as client, pytest.raises(InvalidOptionError, match="a step of a workflow"):
        client.submit(refresh.call("ann").then(refresh))


def test_a_store_without_records() -> None:
    """The client says what is missing, and what to do; nothing is sent."""
    pytest.importorskip("tranship_kombu")
    with Client("kombu+memory://") as client, pytest.raises(UnsupportedError, match=r"unique needs .*result_url"):
        client.submit(refresh, "ann")
