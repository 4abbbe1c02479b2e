"""The submitter of a soak: some batches at once; what became of each task is kept in a file, not in memory."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soak.plan import KINDS, Planned, batches
from tranship import Client, TaskHandle

AT_ONCE = 20
"""Batches whose results are being waited for."""
PATIENCE = 300.0
"""Seconds within which a batch ends, or something is lost."""
LATER = (0.1, 1.0)
"""Seconds after which half of the cancels follow: most of these tasks run by then."""
SECOND_LOOK = 1000
"""Results that are asked for at once."""


class Ledger:
    """What was submitted and how it has ended. Any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("CREATE TABLE tasks (id TEXT PRIMARY KEY, kind TEXT, state TEXT, at REAL)")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def submitted(self, rows: list[tuple[str, str]]) -> None:
        """Put down ids with their kinds."""
        with self._lock, self._file:
            self._file.executemany("INSERT INTO tasks (id, kind) VALUES (?, ?)", rows)

    def ended(self, rows: list[tuple[str, float | None, str]]) -> None:
        """Put down state, time and id."""
        with self._lock, self._file:
            self._file.executemany("UPDATE tasks SET state = ?, at = ? WHERE id = ?", rows)

    def states(self) -> Counter[tuple[str, str]]:
        """How many tasks of each kind ended in each state."""
        counted = self._file.execute("SELECT kind, state, count(*) FROM tasks GROUP BY 1, 2")
        return Counter({(kind, str(state)): count for kind, state, count in counted})

    def ids(self, state: str) -> set[str]:
        """Those that ended in this state."""
        return {row[0] for row in self._file.execute("SELECT id FROM tasks WHERE state = ?", [state])}

    def parts(self, size: int) -> Iterator[list[tuple[str, str, float | None]]]:
        """Id, state and end of all of them, so many at a time."""
        rows = self._file.execute("SELECT id, state, at FROM tasks")
        while part := rows.fetchmany(size):
            yield part


@contextmanager
def ledger(path: Path) -> Iterator[Ledger]:
    """A ledger in a file that is closed afterwards."""
    made = Ledger(path)
    try:
        yield made
    finally:
        made.close()


class Submitter:
    """Submits everything, cancels what is to be cancelled, and waits for it.

    Attributes:
        wrong: what was returned by tasks that should have returned something else, by id.
    """

    def __init__(self, client: Client, kept: Ledger, *, seed: int) -> None:
        self._client = client
        self._ledger = kept
        self._seed = seed
        self._over = threading.Event()
        self.wrong: dict[str, Any] = {}

    def run(self, count: int) -> None:
        """Return when all ``count`` have ended."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = [pool.submit(self._run, *one) for one in enumerate(batches(count, self._seed))]
            try:
                for one in waiting:
                    one.result()
            finally:
                self._over.set()
                pool.shutdown(cancel_futures=True)

    def second_look(self) -> list[str]:
        """Ask for every result once more; return the ids of those that have changed."""
        changed = []
        for part in self._ledger.parts(SECOND_LOOK):
            results = self._client.collect([self._client.handle(row[0]) for row in part], PATIENCE)
            pairs = zip(part, results, strict=True)
            changed += [row[0] for row, result in pairs if (result.state.value, result.finished_at) != row[1:]]
        return changed

    def _run(self, index: int, batch: Sequence[Planned]) -> None:
        key = f"soak-{self._seed}-{index}"
        handles = self._client.submit_many(
            (one.kind.task.options(cancel_key=key) if one.by_key else one.kind.task).call(one.number) for one in batch
        )
        self._ledger.submitted([(handle.id, one.kind.name) for handle, one in zip(handles, batch, strict=True)])
        self._cancel(key, handles, batch, random.Random(key))
        results = self._client.collect(handles, PATIENCE)
        self._ledger.ended([(one.state.value, one.finished_at, one.id) for one in results])
        for one, result in zip(batch, results, strict=True):
            if result.success and result.value != one.number:
                self.wrong[result.id] = result.value

    def _cancel(
        self, key: str, handles: Sequence[TaskHandle[Any]], batch: Sequence[Planned], dice: random.Random
    ) -> None:
        """Half of them at once, when they are queued; the others when they may be running."""
        pairs = list(zip(handles, batch, strict=True))
        verbs: list[Callable[[], object]] = [h.cancel for h, one in pairs if one.kind.cancelled and not one.by_key]
        if any(one.by_key for one in batch):
            verbs.append(lambda: self._client.cancel(key))
        dice.shuffle(verbs)
        half = len(verbs) // 2
        for verb in verbs[:half]:
            verb()
        if verbs[half:]:
            self._over.wait(dice.uniform(*LATER))
        for verb in verbs[half:]:
            verb()


def illegal(states: Counter[tuple[str, str]]) -> dict[str, int]:
    """How many tasks ended as their kind may not, by kind and state."""
    return {f"{kind} {state}": many for (kind, state), many in states.items() if state != KINDS[kind].ends.value}
