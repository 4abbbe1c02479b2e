"""Promises that hold whatever goes wrong, one function each; ``crashes.everywhere`` tries them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from driver.crashes import World, message, result
from tranship.envelope import Receipt, TaskState
from tranship.errors import StorageFull, SubmitUnknown, TranshipError
from tranship.ports import Settled, Settlement, Tombstone, Verdict


async def submitted(world: World) -> None:
    """A receipt means that it is there, a definite error that it is not."""
    backend, one = await world.open(), message()
    (answer,) = await world.step(backend.submitter().submit([one]))
    where = world.places(one.envelope.id)
    if isinstance(answer, Receipt):
        assert where == ["queue"], where
    elif not isinstance(answer, SubmitUnknown):
        assert not where, f"{answer!r}, and it is in {where}"


async def posted(world: World) -> None:
    """The same for what is posted: each batch is answered once."""
    backend, one = await world.open(), message()
    answered: asyncio.Future[list] = asyncio.get_running_loop().create_future()
    world.injector.armed = True
    backend.submitter().post([one], answered.set_result)
    (answer,) = await asyncio.wait_for(answered, 5.0)
    world.injector.armed = False
    where = world.places(one.envelope.id)
    if isinstance(answer, Receipt):
        assert where == ["queue"], where
    elif not isinstance(answer, SubmitUnknown):
        assert not where, f"{answer!r}, and it is in {where}"


async def delayed(world: World) -> None:
    """The same for what waits for its time."""
    backend, one = await world.open(), message(not_before=time.time() + 600)
    (answer,) = await world.step(backend.submitter().submit([one]))
    where = world.places(one.envelope.id)
    if isinstance(answer, Receipt):
        assert len(where) == 1, where
    elif not isinstance(answer, SubmitUnknown):
        assert not where, f"{answer!r}, and it is in {where}"


async def deduplicated(world: World) -> None:
    """Who submits again what may not have been submitted gets it submitted; another one is then its duplicate."""
    backend, one = await world.open(), message(dedup_key="k", check_id=True)
    await world.step(backend.submitter().submit([one]))
    after = await world.open(doomed=False) if world.killed else backend
    (answer,) = await after.submitter().submit([one])
    assert isinstance(answer, Receipt), answer
    assert "queue" in world.places(one.envelope.id), f"{answer}, and it is nowhere"
    (other,) = await after.submitter().submit([message(dedup_key="k")])
    assert isinstance(other, Receipt), other
    assert other.duplicate_of == one.envelope.id, other


async def refused_frees_its_key(world: World) -> None:
    """A key whose task was definitely not submitted can be taken by another one."""
    backend, one = await world.open(), message(dedup_key="k")
    (answer,) = await world.step(backend.submitter().submit([one]))
    if isinstance(answer, TranshipError) and not isinstance(answer, SubmitUnknown) and world.injector.struck == "send":
        (other,) = await backend.submitter().submit([message(dedup_key="k")])
        assert isinstance(other, Receipt), other
        assert other.duplicate_of is None, f"the key is taken by {other.duplicate_of}, which was refused"


async def forwarded(world: World) -> None:
    """What is due comes, whoever dies while moving it."""
    backend, one = await world.open(), message(not_before=time.time() + 600)
    await backend.submitter().submit([one])
    world.later()
    await world.step(backend._delays._forward_due())
    assert world.places(one.envelope.id), "it is nowhere"
    after = await world.open(doomed=False)
    for _ in range(2):
        world.later()
        await after._delays._forward_due()
    assert "queue" in world.places(one.envelope.id), world.places(one.envelope.id)
    assert "delayed" not in world.places(one.envelope.id)


async def _held(world: World, **envelope):
    backend, one = await world.open(), message(**envelope)
    await backend.submitter().submit([one])
    consumer = backend.consumer(["q"])
    (delivery,) = (await consumer.receive(1, 5.0)).deliveries
    return backend, consumer, one.envelope.id, delivery


async def _settled_again(world: World, consumer, settlement: Settlement):
    """Settle as the core does: again, until it is known."""
    answer = await _settled_once(world, consumer, settlement)
    while isinstance(answer, TranshipError) and not world.killed:
        answer = await _settled_once(world, consumer, settlement)
    return answer


async def _settled_once(world: World, consumer, settlement: Settlement):
    answer = await world.step(consumer.settle([settlement]))
    return answer if isinstance(answer, TranshipError) else answer[0]


async def acknowledged(world: World) -> None:
    """A task ends with its result, or is still there."""
    _, consumer, task_id, held = await _held(world)
    answer = await _settled_again(world, consumer, Settlement(held, Verdict.ACK, result=result(task_id, 1)))
    where = world.places(task_id)
    assert where, "neither task nor result is there"
    if answer is Settled.CONFIRMED:
        assert where == ["result"], where


async def rejected(world: World) -> None:
    """A task that is given up is among the dead letters, once, or still there."""
    _, consumer, task_id, held = await _held(world)
    answer = await _settled_again(world, consumer, Settlement(held, Verdict.REJECT, reason="tired"))
    where = world.places(task_id)
    assert where, "it is nowhere"
    assert where.count("dead") <= 1, where
    if answer is Settled.CONFIRMED:
        assert where == ["dead"], where


async def replaced_later(world: World) -> None:
    """The next attempt waits, once, or the one before is still there."""
    _, consumer, task_id, held = await _held(world)
    retry = message(id=task_id, attempt=1, not_before=time.time() + 600)
    answer = await _settled_again(world, consumer, Settlement(held, Verdict.REPLACE, replacement=retry))
    where = world.places(task_id)
    assert where, "it is nowhere"
    assert where.count("delayed") <= 1, where
    if answer is Settled.CONFIRMED:
        assert len(where) == 1, where


async def replaced_now(world: World) -> None:
    """The next attempt is queued before the one before goes."""
    _, consumer, task_id, held = await _held(world)
    retry = message(id=task_id, attempt=1)
    answer = await _settled_again(world, consumer, Settlement(held, Verdict.REPLACE, replacement=retry))
    assert world.places(task_id), "it is nowhere"
    if answer is Settled.CONFIRMED:
        attempts = [one.message.facts.attempt for one in world.broker.entries]
        assert set(attempts) == {1}, attempts


async def refused_one_harms_no_other(world: World) -> None:
    """Of a batch each has its own answer, and what was refused can be settled again."""
    backend, one, two = await world.open(), message(), message()
    await backend.submitter().submit([one, two])
    consumer = backend.consumer(["q"])
    first, second = (await consumer.receive(2, 5.0)).deliveries
    retry = message(id=two.envelope.id, attempt=1)
    batch = [Settlement(first, Verdict.ACK), Settlement(second, Verdict.REPLACE, replacement=retry)]
    if not world.broker.fuses:
        world.broker.refused.add(two.envelope.id)
    answers = await world.step(consumer.settle(batch))
    world.broker.refused.clear()
    if not world.injector.struck and not world.broker.fuses:
        assert [type(one) for one in answers] == [Settled, StorageFull], answers
        assert await consumer.settle(batch[1:]) == [Settled.CONFIRMED]
    assert world.places(two.envelope.id), "what was to be replaced is nowhere"


async def forwarded_by_one(world: World) -> None:
    """Of two workers who see that a message is due, one sends it."""
    backend, one = await world.open(), message(not_before=time.time() + 600)
    other = await world.open()
    await backend.submitter().submit([one])
    world.later()
    await world.step(_both(backend, other))
    if not world.injector.struck:
        assert world.places(one.envelope.id) == ["queue"], world.places(one.envelope.id)


async def _both(*backends) -> None:
    await asyncio.gather(*(one._delays._forward_due() for one in backends))


async def zombie_writes_nothing(world: World) -> None:
    """Who has lost a task to somebody else leaves nothing of it behind."""
    _, consumer, task_id, held = await _held(world)
    world.later()
    rival = (await world.open(doomed=False)).consumer(["q"])
    (mine,) = (await rival.receive(1, 5.0)).deliveries
    for late in (
        Settlement(held, Verdict.ACK, result=result(task_id, "stale")),
        Settlement(held, Verdict.REJECT, reason="stale"),
    ):
        answer = await _settled_once(world, consumer, late)
        assert isinstance(answer, TranshipError) or answer is Settled.LOST, answer
    assert world.places(task_id) == ["queue"], world.places(task_id)
    assert await rival.settle([Settlement(mine, Verdict.ACK, result=result(task_id, "fresh"))]) == [Settled.CONFIRMED]


async def lost_between_proof_and_end(world: World) -> None:
    """Lost after it was shown to be ours, a rejected task is no dead letter."""
    _, consumer, task_id, held = await _held(world)

    async def steal():
        world.later()

    world.injector.before["end"] = steal
    answer = await _settled_once(world, consumer, Settlement(held, Verdict.REJECT, reason="late"))
    if answer is Settled.LOST:
        assert world.places(task_id) == ["queue"], world.places(task_id)
    else:
        assert isinstance(answer, TranshipError), answer


async def cancelled(world: World) -> None:
    """What a cancel has removed has its result; what it has not is there, and its tombstone is."""
    backend = await world.open()
    one, two = message(cancel_key="k"), message(cancel_key="k", not_before=time.time() + 600)
    await backend.submitter().submit([one, two])
    answer = await world.step(backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 9999)]))
    for task_id in (one.envelope.id, two.envelope.id):
        assert world.places(task_id), "neither task nor result is there"
        if not isinstance(answer, TranshipError) and task_id in answer.removed:
            assert world.places(task_id) == ["result"], world.places(task_id)
    if not isinstance(answer, TranshipError):
        assert any(key.startswith("z/") for key in world.broker.live())


async def replayed(world: World) -> None:
    """A dead letter that is queued again is a letter until it is queued."""
    backend, consumer, task_id, held = await _held(world)
    await consumer.settle([Settlement(held, Verdict.REJECT, reason="tired", result=result(task_id, "failed"))])
    answer = await world.step(backend.inspector().dead_replay([task_id]))
    where = [place for place in world.places(task_id) if place != "result"]
    assert where, "it is neither queued nor a dead letter"
    if answer == [task_id]:
        assert world.places(task_id) == ["queue"], world.places(task_id)


async def cancelled_receive_loses_nothing(world: World) -> None:
    """What a receive had taken when it was cancelled comes with the next one, and was counted once."""
    backend = await world.open()
    consumer = backend.consumer(["q"])
    for steps in range(8):
        one = message()
        await backend.submitter().submit([one])
        call = asyncio.ensure_future(consumer.receive(1, 5.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        (found,) = await asyncio.gather(call, return_exceptions=True)
        answer = None if isinstance(found, BaseException) else found
        if answer is None or not answer.deliveries:
            answer = await world.step(consumer.receive(1, 0.3))
        if world.injector.struck:
            return
        counts = [delivery.delivery_count for delivery in answer.deliveries]
        assert counts == [1], f"cancelled after {steps} steps, then it came with the counts {counts}"
        await consumer.settle([Settlement(answer.deliveries[0], Verdict.ACK)])


async def closed_consumer_gives_back(world: World) -> None:
    """Closed with messages in its buffer and in flight, a consumer leaves them to others at once, not counted."""
    backend = await world.open()
    rival = (await world.open(doomed=False)).consumer(["q"])
    for steps in range(1, 8):
        consumer = backend.consumer(["q"])
        await backend.submitter().submit([message() for _ in range(3)])
        call = asyncio.ensure_future(consumer.receive(3, 5.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await world.step(consumer.aclose())
        if world.injector.struck:
            return
        again = (await rival.receive(3, 0.5)).deliveries
        counts = [one.delivery_count for one in again]
        assert counts == [1, 1, 1], (
            f"cancelled after {steps} steps and closed: of three came some with the counts {counts}"
        )
        await rival.settle([Settlement(one, Verdict.ACK) for one in again])


async def ending_task_is_not_unknown(world: World) -> None:
    """A task that ends while its state is looked for is known all the same."""
    _, consumer, task_id, held = await _held(world)
    reader = await world.open()

    async def end():
        (answer,) = await consumer.settle([Settlement(held, Verdict.ACK, result=result(task_id, 1))])
        if isinstance(answer, TranshipError):
            raise answer

    world.injector.before["find"] = end
    answer = await world.step(reader.results().get_many([task_id]))
    if not isinstance(answer, TranshipError):
        assert [one.state for one in answer] == [TaskState.SUCCESS], answer


async def rejected_without_table(world: World) -> None:
    """A rejected task is queued, or a dead letter of the queue beside; both where an answer was lost, never neither."""
    _, consumer, task_id, held = await _held(world)
    answer = await _settled_again(world, consumer, Settlement(held, Verdict.REJECT, reason="no"))
    where = _queues_with(world, task_id)
    assert where, "it is nowhere"
    if isinstance(answer, Settled) and answer is not Settled.LOST:
        assert set(where) == {"q.dead"}, where
        letters = await (await world.open(doomed=False)).inspector().dead()
        assert [(one.task_id, one.reason) for one in letters] == [(task_id, "no")], letters


async def replayed_without_table(world: World) -> None:
    """A dead letter that is queued again is a letter until it is queued, and one that is not stays one."""
    backend, consumer, task_id, held = await _held(world)
    await consumer.settle([Settlement(held, Verdict.REJECT, reason="tired")])
    await consumer.settle([Settlement(one, Verdict.REJECT) for one in await _received(backend, consumer)])
    answer = await world.step(backend.inspector().dead_replay([task_id]))
    where = _queues_with(world, task_id)
    assert where, "it is neither queued nor a dead letter"
    if answer == [task_id]:
        assert where == ["q"], where
    world.later()
    after = await (await world.open(doomed=False)).inspector().dead("q")
    assert len(after) == 1 + ("q.dead" in where), "another letter has gone"


async def _received(backend, consumer):
    await backend.submitter().submit([message()])
    return (await consumer.receive(1, 5.0)).deliveries


def _queues_with(world: World, task_id: str) -> list[str]:
    return sorted(one.message.queue for one in world.broker.entries if one.message.id == task_id)


async def cancelled_without_table(world: World) -> None:
    """A cancel that was accepted is heard by who listens later."""
    backend = await world.open()
    tombstone = Tombstone(kind="key", value="k", expires=time.time() + 9999)
    answer = await world.step(backend.control().cancel([tombstone]))
    heard: list[Any] = []
    await (await world.open(doomed=False)).control().listen(heard.extend, worker="w")
    if not isinstance(answer, TranshipError):
        assert heard == [tombstone]


WITHOUT_TABLE = (rejected_without_table, replayed_without_table, cancelled_without_table)
ALL = (
    submitted,
    posted,
    delayed,
    deduplicated,
    refused_frees_its_key,
    forwarded,
    forwarded_by_one,
    acknowledged,
    rejected,
    replaced_later,
    replaced_now,
    refused_one_harms_no_other,
    zombie_writes_nothing,
    lost_between_proof_and_end,
    cancelled,
    replayed,
    cancelled_receive_loses_nothing,
    closed_consumer_gives_back,
    ending_task_is_not_unknown,
)
