"""huey with SqliteHuey, as its documentation shows it: WAL, SQLite's own default of synchronous=FULL."""

from __future__ import annotations

import threading
import time

from huey import SqliteHuey

huey = SqliteHuey("bench", filename="huey.db")


@huey.task()
def noop(payload):  # noqa: ARG001 - it only has to travel
    # A value, for huey stores no result for None.
    return 1


def submit(amount: int, argument: int, threads: int):
    """Tasks enqueued per second, from one thread or several."""
    payload = "x" * argument
    for _ in range(50):
        noop(payload)
    each = amount // threads

    def enqueue() -> None:
        for _ in range(each):
            noop(payload)

    begun = time.perf_counter()
    if threads == 1:
        enqueue()
    else:
        callers = [threading.Thread(target=enqueue) for _ in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    took = time.perf_counter() - begun
    return {"rate": each * threads / took, "landed": huey.pending_count() - 50, "wanted": each * threads}


def fill(amount: int, argument: int):
    payload = "x" * argument
    for _ in range(amount):
        noop(payload)
    return huey.pending_count()


def drain(amount: int, warm: int):
    """Tasks per second of a bare loop: kinder to huey than its consumer, which adds threads and sleeps."""

    def work(count: int) -> None:
        for _ in range(count):
            huey.execute(huey.dequeue())

    work(warm)
    begun = time.perf_counter()
    work(amount)
    took = time.perf_counter() - begun
    return {"rate": amount / took, "left": huey.pending_count(), "results": huey.result_count()}
