"""The bounds on Redis: redis-py itself with the same bytes, nothing around it."""

from __future__ import annotations

import time
from pathlib import Path

import redis

from address import redis_url
from child import ready
from gauge import in_threads
from harness import percentile

WARM = 200
LIST, ANSWERS = "bench", "answers"
ELEMENT = "element.bin"
END = b"end"


def connect() -> redis.Redis:
    return redis.Redis.from_url(redis_url())


def element() -> bytes:
    """The very bytes that tranship puts into its list."""
    return Path(ELEMENT).read_bytes()


def serial(amount: int):
    """A blocking LPUSH after the other."""
    client, value, seconds = connect(), element(), []
    for _ in range(WARM):
        client.lpush(LIST, value)
    begun = last = time.perf_counter()
    for _ in range(amount):
        client.lpush(LIST, value)
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    return {"rate": amount / (last - begun), **latencies(seconds), "wanted": WARM + amount}


def threads(amount: int, threads: int):
    """LPUSH from many threads, one client with its pool for all of them."""
    client, value, each = connect(), element(), amount // threads
    took = in_threads(threads, each, lambda: client.lpush(LIST, value))
    return {"rate": each * threads / took, "wanted": (each + 2) * threads}


def echo_server():
    """BRPOP a message, LPUSH the answer, until the end is sent."""
    client, count = connect(), 0
    ready()
    while (value := client.brpop(LIST, timeout=60)[1]) != END:
        client.lpush(ANSWERS, value)
        count += 1
    return {"done": count}


def echo(amount: int, warm: int):
    """LPUSH there, BRPOP the answer, one after the other."""
    client, value, seconds = connect(), element(), []
    for number in range(warm + amount):
        begun = time.perf_counter()
        client.lpush(LIST, value)
        client.brpop(ANSWERS, timeout=30)
        if number >= warm:
            seconds.append(time.perf_counter() - begun)
    client.lpush(LIST, END)
    return {**latencies(seconds), "wanted": warm + amount}


def woken_server():
    """Answer each message with the time at which it came."""
    client, count = connect(), 0
    ready()
    while client.brpop(LIST, timeout=60)[1] != END:
        client.lpush(ANSWERS, time.monotonic_ns())
        count += 1
    return {"done": count}


def woken(amount: int, warm: int, every: float):
    """From the start of LPUSH here to the return of BRPOP there; the other side is idle each time."""
    client, value, seconds = connect(), element(), []
    for number in range(warm + amount):
        begun = time.monotonic_ns()
        client.lpush(LIST, value)
        at = int(client.brpop(ANSWERS, timeout=30)[1])
        if number >= warm:
            seconds.append((at - begun) / 1e9)
        time.sleep(every)
    client.lpush(LIST, END)
    return {**latencies(seconds), "wanted": warm + amount}


def latencies(seconds: list[float]):
    return {"p50": percentile(seconds, 0.5) * 1e3, "p99": percentile(seconds, 0.99) * 1e3}
