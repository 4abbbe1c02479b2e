"""Results that are only pushed: what came is remembered within bounds, and what is not ours is refused, alone."""

from __future__ import annotations

import asyncio

import pytest

from tranship.client import _pushed
from tranship.client._pushed import Remembered
from tranship.envelope import TaskResult, TaskState
from tranship.errors import UnsupportedError
from tranship.ports import StoredResult
from tranship.protocol import encode_result
from tranship.waiting import Waiting


class Pushing:
    """A store that can push, and be asked for nothing."""

    def attach(self, sink):
        self.push = sink


def stored(task_id: str, value: object = 1, state: TaskState = TaskState.SUCCESS) -> StoredResult:
    document = encode_result(TaskResult(id=task_id, state=state, value=value, finished_at=1.0))
    return StoredResult(id=task_id, state=state, document=document)


@pytest.fixture
def store() -> Pushing:
    return Pushing()


@pytest.fixture
def remembered(store) -> Remembered:
    return Remembered(store, "pushing")


async def states(remembered: Remembered, *ids: str) -> list[TaskState]:
    return [one.state for one in await remembered.get_many(ids)]


async def test_pending_until_it_came_and_then_kept(store, remembered):
    remembered.submitted(["a", "b"])
    store.push([stored("a")])
    assert await states(remembered, "a", "b") == [TaskState.SUCCESS, TaskState.PENDING]


async def test_the_first_one_counts(store, remembered):
    heard = []
    remembered.attach(heard.extend)
    remembered.submitted(["a"])
    store.push([stored("a", "first"), stored("a", "second")])
    store.push([stored("a", "third")])
    assert [one.document for one in heard] == [stored("a", "first").document]


async def test_what_was_submitted_elsewhere_is_refused_and_not_kept(store, remembered):
    store.push([stored("foreign")])
    with pytest.raises(UnsupportedError, match=r"foreign.*TRANSHIP_RESULT_URL") as refused:
        await remembered.get_many(["foreign"])
    assert refused.value.task_id == "foreign"


async def test_forgotten(store, remembered):
    remembered.submitted(["a"])
    store.push([stored("a")])
    await remembered.forget_many(["a", "unknown"])
    with pytest.raises(UnsupportedError):
        await remembered.get_many(["a"])


async def test_memory_is_bounded(store, remembered, monkeypatch):
    monkeypatch.setattr(_pushed, "KEPT", 3)
    monkeypatch.setattr(_pushed, "AWAITED", 5)
    remembered.submitted([f"a-{number}" for number in range(6)])
    with pytest.raises(UnsupportedError):
        await remembered.get_many(["a-0"])
    store.push([stored(f"a-{number}") for number in range(1, 6)])
    with pytest.raises(UnsupportedError):
        await remembered.get_many(["a-2"])
    assert await states(remembered, "a-3", "a-5") == [TaskState.SUCCESS] * 2
    monkeypatch.setattr(_pushed, "KEPT_BYTES", 1000)
    remembered.submitted(["large"])
    store.push([stored("large", "x" * 2000)])
    with pytest.raises(UnsupportedError):
        await remembered.get_many(["large"])


async def test_a_foreign_id_takes_none_of_its_neighbours_along(store, remembered):
    waiting = Waiting(remembered, loop=asyncio.get_running_loop(), push=True, knows_ids=False)
    found: dict[str, object] = {}
    refused = asyncio.Event()

    def sink(task_id: str, what: object) -> None:
        found[task_id] = what
        if task_id == "foreign":
            refused.set()

    remembered.submitted(["own", "later"])
    store.push([stored("own")])
    waiting.watch(["own", "foreign", "later"], sink)
    await refused.wait()
    assert isinstance(found["foreign"], UnsupportedError)
    assert found["own"].value == 1
    store.push([stored("later", 2)])
    assert found["later"].value == 2
    await waiting.aclose()
