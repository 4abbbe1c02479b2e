"""kombu's SQLAlchemy transport on SQLite, through its SimpleQueue; a transport, so there are no results."""

from __future__ import annotations

import time
from pathlib import Path

from kombu import Connection


def connect() -> Connection:
    return Connection(f"sqlalchemy+sqlite:///{Path('kombu.db').resolve()}")


def fill(amount: int, argument: int):
    with connect() as connection, connection.SimpleQueue("bench") as queue:
        for _ in range(amount):
            queue.put({"payload": "x" * argument})
        return queue.qsize()


def drain(amount: int, warm: int):
    with connect() as connection, connection.SimpleQueue("bench") as queue:

        def work(count: int) -> None:
            for _ in range(count):
                queue.get(timeout=5).ack()

        work(warm)
        begun = time.perf_counter()
        work(amount)
        took = time.perf_counter() - begun
        return {"rate": amount / took, "left": queue.qsize()}
