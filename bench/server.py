"""A redis-server per measurement: without persistence, pinned, on a free port; and what it says of itself."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import redis

import address
from harness import CONSUMER, Bench, BenchError, cpu

SERVER = CONSUMER
"""Redis has the second CPU."""
WORKER = CONSUMER + 1
"""A worker that works while a client measures has the third; with two CPUs it shares Redis's."""

SETTINGS = {"save": "", "appendonly": "no", "bind": "127.0.0.1", "daemonize": "no"}
ATTEMPTS = 3
PIN = "import os, sys; exec(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
TASK_RESULTS = "celery-task-meta-*"


@dataclass
class Server:
    """A running server, and a connection of the bench's own to look at it."""

    where: Path
    client: redis.Redis
    own: int
    """The id of that connection."""

    def info(self, section: str, name: str) -> float:
        return float(self.client.info(section)[name])

    def cpu_seconds(self) -> float:
        """CPU time that the server has used so far."""
        used = self.client.info("cpu")
        return used["used_cpu_user"] + used["used_cpu_sys"]

    def lists(self) -> dict[str, int]:
        """Every list and its length."""
        keys = list(self.client.scan_iter(count=1000, _type="list"))
        return {key.decode(errors="replace"): self.client.llen(key) for key in keys}

    def queued(self) -> int:
        """Elements in all lists: nothing lies where it should not."""
        return sum(self.lists().values())

    def element(self) -> bytes:
        """The element that was added last to the longest list."""
        lists = self.lists()
        return self.client.lindex(max(lists, key=lists.__getitem__), 0)

    def keys(self, pattern: str) -> list[bytes]:
        return list(self.client.scan_iter(pattern, count=1000))

    def values(self, pattern: str) -> list[bytes]:
        keys = self.keys(pattern)
        return [value for value in self.client.mget(keys) if value is not None] if keys else []

    def succeeded(self) -> int:
        """Stored results in Celery's layout that say SUCCESS."""
        return sum(re.match(rb'\{"status": ?"SUCCESS"', value) is not None for value in self.values(TASK_RESULTS))

    def others(self) -> list[dict[str, str]]:
        """Everybody who is connected, but for the bench."""
        return [one for one in self.client.client_list() if int(one["id"]) != self.own]

    def until(self, what: str, count: Callable[[], int], wanted: int, timeout: float = 15.0) -> None:
        """Wait for the server's own counter, or give no figure."""
        end = time.monotonic() + timeout
        while (found := count()) != wanted:
            if time.monotonic() > end:
                raise BenchError(f"{what}: found {found}, expected {wanted}")
            time.sleep(0.01)


@contextmanager
def redis_server(bench: Bench) -> Iterator[Server]:
    """A new server with a directory of its own, in which measured processes find its address."""
    with bench.place() as where:
        process, port = launch(where)
        client = redis.Redis(port=port)
        try:
            (where / address.FILE).write_text(f"redis://127.0.0.1:{port}/0")
            server = Server(where, client, client.client_id())
            yield server
            no_strays(server)
        except redis.RedisError as error:
            raise BenchError(f"the server did not answer the bench: {error!r}") from error
        finally:
            client.close()
            process.terminate()
            process.wait(10)


def no_strays(server: Server) -> None:
    """Whoever is still connected would be at work beside the next measurement."""
    end = time.monotonic() + 5
    while found := server.others():
        if time.monotonic() > end:
            raise BenchError(f"still connected after the measurement: {found}")
        time.sleep(0.01)


def launch(where: Path) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(ATTEMPTS):  # another process may take the port before the server does
        port = free_port()
        with (where / "server.log").open("wb") as log:
            process = subprocess.Popen(command(port, where), stdout=log, stderr=log)
        if answers(process, port):
            return process, port
        process.kill()
        process.wait()
    raise BenchError(f"redis-server did not start\n{(where / 'server.log').read_text()[-2000:]}")


def command(port: int, where: Path) -> list[str]:
    pinned = cpu(SERVER)
    pin = "" if pinned is None else f"os.sched_setaffinity(0, {{{pinned}}})"
    settings = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
    return [sys.executable, "-S", "-E", "-c", PIN, pin, program(), "--port", str(port), "--dir", str(where), *settings]


@cache
def program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise BenchError("redis-server is not installed; every row on Redis needs it")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        try:
            with redis.Redis(port=port) as client:
                return client.info("server")["process_id"] == process.pid
        except redis.ConnectionError:
            time.sleep(0.01)
    return False


def version() -> str:
    """The server's version and what it was told."""
    found = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    settings = ", ".join(f"{name} {value or '(none)'}" for name, value in SETTINGS.items())
    return f"{found.split()[2].removeprefix('v=')}, started for each measurement; {settings}"
