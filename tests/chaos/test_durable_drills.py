"""Sleeps and awaited events over workers that are killed: each goes on once, and no step is done again that was kept."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from chaos.drilled import workers_at
from chaos.durable_worker import sleeps, waits
from tranship import Client

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

NUMBER = 1000
"""Sleeps, and as many events."""
PATIENCE = 600.0


def test_sleeps_and_events_go_on_once(anywhere: str, tmp_path: Path, tell) -> None:
    log, began = tmp_path / "log", time.monotonic()
    with Client(anywhere) as client, workers_at("chaos.durable_worker", anywhere, log) as workers:
        asleep = client.submit_many(sleeps.call(number) for number in range(NUMBER))
        waiting = client.submit_many(waits.call(number) for number in range(NUMBER))
        unsent, ended = list(waiting), 0
        random.shuffle(unsent)
        results = {}
        while len(results) < 2 * NUMBER:
            assert time.monotonic() < began + PATIENCE, f"{2 * NUMBER - len(results)} have not ended"
            for handle in [unsent.pop() for _ in range(min(len(unsent), 40))]:
                assert handle.send_event("go", 10_000)
                assert not handle.send_event("go", 20_000)
            if ended < 2 * NUMBER - 50:
                workers.kill_one_now_and_then()
            open_ones = [one for one in (*asleep, *waiting) if one.id not in results]
            for one in client.collect(open_ones, timeout=0.5):
                if one.state.terminal:
                    results[one.id] = one
            ended = len(results)
        seconds = time.monotonic() - began
    assert [results[one.id].value for one in asleep] == list(range(NUMBER))
    assert [results[one.id].value for one in waiting] == [number + 10_000 for number in range(NUMBER)]
    done, again, repeats = _judged(log)
    tell(
        f"{NUMBER} sleeps and {NUMBER} events in {seconds:.0f} s, {workers.kills} workers killed: each ended once; "
        f"{done} steps, {again} done again after they had been kept, {repeats} before that, by a kill in between; "
        f"{_runs(log)} runs came to a kept step again and did not do it"
    )
    assert workers.kills >= 3
    assert again == 0
    assert repeats <= workers.kills * 16 * 2


def _judged(log: Path) -> tuple[int, int, int]:
    """Return how many steps were done, how many of them again after they had been kept, and how many before."""
    kept: defaultdict[str, set[str]] = defaultdict(set)
    done: Counter[tuple[str, str]] = Counter()
    again = 0
    for line in log.read_text().splitlines():
        task_id, what = line.split()
        if what.startswith("kept-"):
            kept[task_id].add(what.removeprefix("kept-"))
            continue
        done[task_id, what] += 1
        again += what in kept[task_id]
    assert len(done) == 4 * NUMBER, "some step was never done"
    return len(done), again, sum(done.values()) - len(done)


def _runs(log: Path) -> int:
    seen = Counter(line for line in log.read_text().splitlines() if " kept-" in line)
    return sum(seen.values()) - len(seen)
