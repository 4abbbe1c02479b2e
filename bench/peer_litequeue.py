"""litequeue with its own settings (WAL, synchronous=NORMAL: less durable than the others here); it has no results."""

from __future__ import annotations

import time

from litequeue import LiteQueue


def fill(amount: int, argument: int):
    queue = LiteQueue("litequeue.db")
    for _ in range(amount):
        queue.put("x" * argument)
    return queue.qsize()


def drain(amount: int, warm: int):
    queue = LiteQueue("litequeue.db")

    def work(count: int) -> None:
        for _ in range(count):
            queue.done(queue.pop().message_id)

    work(warm)
    begun = time.perf_counter()
    work(amount)
    took = time.perf_counter() - begun
    return {"rate": amount / took, "left": queue.qsize()}
