"""Limits and order by key over workers that are killed: never exceeded, never reordered, by the events of all runs."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from chaos.drilled import workers_at
from chaos.limits_worker import LIMIT, free, limited, ordered
from tranship import Client

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(3000)]

NUMBER = int(os.environ.get("TRANSHIP_TEST_LIMITS", "50000"))
"""Tasks, half of them with a limit and half in order."""
KEYS = 200
MEASURED = 2000
"""Tasks of each kind, before anybody is killed."""
PATIENCE = 2400.0


def test_limits_and_order_hold(anywhere: str, tmp_path: Path, tell) -> None:
    log = tmp_path / "log"
    with (
        Client(anywhere, submit_timeout=120) as client,
        workers_at("chaos.limits_worker", anywhere, log, logs_deaths=True) as workers,
    ):
        client.submit(free, "warm", 0).result(60)
        rates = [_measured(client, one) for one in (free, limited, ordered)]
        tell(f"a second, free: {rates[0]:.0f}, with a limit: {rates[1]:.0f}, in order: {rates[2]:.0f}")
        began = time.monotonic()
        calls = []
        for number in range(NUMBER // 2):
            calls += [limited.call(f"key-{number % KEYS}", number), ordered.call(f"key-{number % KEYS}", number)]
        handles = []
        for start in range(0, len(calls), 2000):
            handles += client.submit_many(calls[start : start + 2000])
            workers.kill_one_now_and_then()
        submitted = time.monotonic() - began
        left = {one.id: one for one in handles}
        while left:
            assert time.monotonic() < began + PATIENCE, f"{len(left)} have not ended"
            for one in client.collect(list(left.values())[:5000], timeout=1):
                if one.state.terminal:
                    assert one.success, one
                    del left[one.id]
            if len(left) > NUMBER // 20:
                workers.kill_one_now_and_then()
        seconds = time.monotonic() - began
    runs = _judged(log)
    tell(
        f"{NUMBER} tasks over {KEYS} keys, submitted in {submitted:.0f} s, ended after {seconds:.0f} s, "
        f"{workers.kills} workers killed: no limit exceeded, nothing overtaken; {runs} runs, "
        f"{runs - NUMBER} of them again after a kill"
    )
    assert workers.kills >= 3 or NUMBER < 20_000
    assert runs - NUMBER <= workers.kills * 64


def _measured(client: Client, task) -> float:
    began = time.monotonic()
    handles = client.submit_many(task.call(f"measured-{number % KEYS}", number) for number in range(MEASURED))
    assert all(one.success for one in client.collect(handles, timeout=300))
    return MEASURED / (time.monotonic() - began)


def _judged(log: Path) -> int:
    """Insist that no limit was exceeded, and nothing overtaken; return how many runs began, without the measured."""
    running: defaultdict[tuple[str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
    last: dict[str, int] = {}
    ended: set[tuple[str, str, int]] = set()
    runs = 0
    for line in log.read_text().splitlines():
        what, process, kind, key, at = line.split()
        pid, number, here = int(process), int(at), running[kind, key]
        if what == "death":
            for other in running.values():
                for one in [one for one in other if one[0] == pid]:
                    del other[one]
            continue
        if what == "stop":
            here[pid, number] -= 1
            here += Counter()
            ended.add((kind, key, number))
            continue
        runs += key.startswith("key-")
        here[pid, number] += 1
        if kind == "free":
            continue
        most = 1 if kind == "ordered" else LIMIT
        assert here.total() <= most, f"{here.total()} of {kind} {key} run at once: {dict(here)}"
        if kind == "ordered":
            before = last.get(key, -1)
            assert number >= before, f"{kind} {key}: {number} begins after {before} has begun"
            assert number == before or before < 0 or (kind, key, before) in ended, f"{before} of {key} has not ended"
            last[key] = number
    return runs
