"""The Celery client that sends the canvases and looks how they end; it lives in a process of its own.

The functions in the first half run there, on Celery alone; :class:`Sender` calls them from here.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from interop.celery_config import CONFIG
from interop.mixed import plan
from interop.mixed.plan import Canvas

AT_ONCE = 20
"""Canvases that have been sent and have not ended."""
PATIENCE = 60.0
"""Seconds that one look at the results may take."""
READY = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


# In the client's process.


def _configure(environ: Mapping[str, str]) -> None:
    os.environ.update(environ)


def _send(numbers: Sequence[int]) -> list[Canvas]:
    from celery import chain, chord

    from interop.mixed.celery_app import collect, step

    sent = []
    for number in numbers:
        kind = plan.kind_of(number)
        if kind == plan.CHAIN:
            last = chain(step.s(number, 0), *(step.s(place) for place in range(1, plan.LINKS))).apply_async()
            ids = (last.parent.parent.id, last.parent.id, last.id)
        else:
            last = chord([step.s(number, place) for place in range(plan.MEMBERS)], collect.s()).apply_async()
            ids = (*(one.id for one in last.parent.results), last.id)
        sent.append(Canvas(number, kind, ids, group="" if kind == plan.CHAIN else last.parent.id))
    return sent


def _look(ids: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return state and value of those that have ended, by their ids."""
    from interop.mixed.celery_app import app

    backend = app.backend
    kept = backend.mget([backend.get_key_for_task(task_id) for task_id in ids])
    metas = (backend.decode_result(one) for one in kept if one is not None)
    return {
        meta["task_id"]: (meta["status"], meta["result"] if meta["status"] == "SUCCESS" else str(meta["result"]))
        for meta in metas
        if meta["status"] in READY
    }


def _counted(group: str) -> list[str]:
    """Return the members of a chord that Redis has counted."""
    from interop.mixed.celery_app import app

    backend = app.backend
    parts = backend.client.zrange(backend.get_key_for_group(group, ".j"), 0, -1)
    return [backend.decode(part)[1] for part in parts]


# Here.


class Sender:
    """Sends canvases, some at a time.

    Attributes:
        canvases: everything that was sent, by the id of its last task, as it has ended up to now.
    """

    def __init__(self, count: int, environ: Mapping[str, str], config: Mapping[str, Any]) -> None:
        self.canvases: dict[str, Canvas] = {}
        self._numbers = list(range(1, count + 1))
        self._open: set[str] = set()
        self._pool = ProcessPoolExecutor(
            1,
            # Not forked: the tests have threads and loops that a child must not inherit.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_configure,
            initargs=({**environ, CONFIG: json.dumps(config)},),
        )

    @property
    def sending(self) -> bool:
        """Whether there is more to send."""
        return bool(self._numbers)

    @property
    def waiting(self) -> int:
        """How many canvases have not ended."""
        return len(self._open)

    def advance(self) -> int:
        """Send what may be sent, look once, and return how many have ended since the last look."""
        batch, self._numbers = self._numbers[: AT_ONCE - self.waiting], self._numbers[AT_ONCE - self.waiting :]
        if batch:
            sent = {one.ids[-1]: one for one in self._call(_send, batch)}
            self.canvases |= sent
            self._open |= sent.keys()
        ended = self._call(_look, sorted(self._open)) if self._open else {}
        for task_id, (state, value) in ended.items():
            self.canvases[task_id] = replace(self.canvases[task_id], state=state, value=value)
        self._open -= ended.keys()
        return len(ended)

    def results(self, canvas: Canvas) -> dict[str, tuple[str, Any]]:
        """Return state and value of those tasks of a canvas that have ended, by their ids."""
        return self._call(_look, canvas.ids)

    def counted(self, canvas: Canvas) -> list[str]:
        """Return the members of its chord that Redis has counted, for as long as that is not finished."""
        return self._call(_counted, canvas.group) if canvas.group else []

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._pool.submit(function, *args).result(PATIENCE)

    def __enter__(self) -> Self:
        self._call(os.getpid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
