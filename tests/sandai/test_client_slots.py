"""The line for slots by itself: fair, shared by all loops, and nothing is ever lost in it."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from tranship.compat.sandai import ClientPoolTimeoutError
from tranship.compat.sandai._limits import Slots, SlotTable


async def test_first_come_first_served():
    slots, order = Slots("broker", 1), []
    await slots.acquire(1)

    async def caller(number: int) -> None:
        await slots.acquire(5)
        order.append(number)
        await asyncio.sleep(0)
        slots.release()

    callers = []
    for number in range(20):
        callers.append(asyncio.create_task(caller(number)))
        await asyncio.sleep(0)
    assert slots.waiting == 20
    slots.release()
    # Nobody overtakes the line, even when a slot is free for a moment.
    await slots.acquire(5)
    order.append("late")
    slots.release()
    await asyncio.gather(*callers)
    assert order == [*range(20), "late"]
    assert (slots.taken, slots.waiting) == (0, 0)


async def test_who_gives_up_leaves_the_line():
    slots = Slots("backend", 2)
    await slots.acquire(1)
    await slots.acquire(1)
    with pytest.raises(ClientPoolTimeoutError, match="backend") as full:
        await slots.acquire(0.05)
    assert (full.value.pool_name, full.value.timeout, full.value.limit) == ("backend", 0.05, 2)
    assert isinstance(full.value, TimeoutError)
    waiting = asyncio.create_task(slots.acquire(5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert (slots.taken, slots.waiting) == (2, 0)


async def test_a_slot_granted_to_a_cancelled_caller_is_not_lost():
    slots = Slots("broker", 1)
    await slots.acquire(1)
    waiting = asyncio.create_task(slots.acquire(5))
    await asyncio.sleep(0)
    # Granted, but the caller is cancelled before it hears of it.
    slots.release()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert slots.taken == 0


def test_a_caller_whose_loop_has_gone_is_passed_over():
    slots = Slots("broker", 1)
    asyncio.run(slots.acquire(1))
    loop = asyncio.new_event_loop()
    gone = loop.create_task(slots.acquire(60))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone._log_destroy_pending = False
    slots.release()
    asyncio.run(slots.acquire(0.5))


def test_many_loops_share_the_slots():
    slots, most, now, lock = Slots("broker", 3), 0, 0, threading.Lock()

    async def caller() -> None:
        nonlocal most, now
        async with slots.one(20):
            with lock:
                now += 1
                most = max(most, now)
            await asyncio.sleep(0.001)
            with lock:
                now -= 1

    async def callers() -> None:
        await asyncio.gather(*(caller() for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(callers(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, slots.taken, slots.waiting) == (3, 0, 0)


def test_slots_live_as_long_as_somebody_has_them():
    table = SlotTable()
    one = table.get("key", "broker", 2)
    assert table.get("key", "broker", 2) is one
    assert table.get("other", "broker", 2) is not one
    del one
    gc.collect()
    assert not len(table._slots)
