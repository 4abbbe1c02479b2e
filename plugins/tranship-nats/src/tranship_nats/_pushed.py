"""Whose results are expected here, and how they come: to our inbox, or by a subscription for each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from tranship.envelope import TaskState
from tranship.ports import StoredResult
from tranship_nats._frames import block, escaped, frame, headers_of, unescaped
from tranship_nats._link import Link
from tranship_nats._names import Names, id_token

__all__ = ["STATE", "Expectations", "state_of"]

STATE: Final = b"State"
_ID: Final = b"Task-Id"
_ADDRESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\.[0-9a-f]{32}\.r")
"""An inbox of ours. Messages say where results go, and must not make a worker publish anywhere else."""
_OWN: Final = 20_000
"""Ids of our own submits that are remembered: their results come to our inbox anyhow."""

Hint = Callable[[str], None]


class Expectations:
    """The ids that are expected, over all connections.

    A worker sends the result of a task to the inbox of who submitted it, and says on a subject of the task's own
    that there is one. Who has not submitted the task himself subscribes to that.

    Args:
        link: the backend's.
        names: of its namespace.
    """

    def __init__(self, link: Link, names: Names) -> None:
        self.address = f"{link.inbox}.r"
        self._link = link
        self._root = f"{names.root}.r"
        self._prefix = len(self.address) + 1
        self._expected: dict[str, int] = {}
        """Each id with the number of its own subscription; 0: it needs none."""
        self._unheard: dict[str, None] = {}
        """Those that may need a subscription, which they do not have yet."""
        self._own: dict[str, None] = {}
        self._sink: Callable[[StoredResult], None] | None = None
        self._hint: Hint | None = None
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._expected)

    def attach(self, sink: Callable[[StoredResult], None], hint: Hint) -> None:
        """Hand pushed results to ``sink``; tell ``hint`` the ids of those that have to be read."""
        self._sink, self._hint = sink, hint

    def start(self) -> None:
        """Listen on a new connection; what was expected before is expected still."""
        self._link.listen(f"{self.address}.*", self._pushed)
        self._unheard.update((task_id, None) for task_id, sid in self._expected.items() if sid)
        self._expected = dict.fromkeys(self._expected, 0)
        self.flush()

    def submitted(self, task_id: str) -> None:
        """The task is being submitted from here, with our address."""
        self._own[task_id] = None
        self._unheard.pop(task_id, None)
        if len(self._own) > _OWN:
            del self._own[next(iter(self._own))]

    def add(self, ids: Sequence[str]) -> None:
        """Expect ``ids``; subscribed at the end of this turn of the loop, or by :meth:`flush`."""
        for task_id in ids:
            if task_id not in self._expected:
                self._expected[task_id] = 0
                if task_id not in self._own:
                    self._unheard[task_id] = None
        if self._unheard and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def drop(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids``."""
        for task_id in ids:
            sid = self._expected.pop(task_id, 0)
            self._unheard.pop(task_id, None)
            if sid:
                self._link.unlisten(sid, self._link.generation)

    def clear(self) -> None:
        """Expect nothing any more."""
        self._sink = self._hint = None
        self._expected.clear()
        self._unheard.clear()

    def flush(self) -> None:
        """Subscribe to what is not submitted from here."""
        self._scheduled = False
        if not self._link.up:
            return
        unheard, self._unheard = self._unheard, {}
        for task_id in unheard:
            subject = f"{self._root}.{id_token(task_id)}"
            self._expected[task_id] = self._link.listen(subject, self._announced(task_id))

    def frames(self, result: StoredResult) -> bytes:
        """Return what tells of a result that is stored."""
        name = id_token(result.id)
        headers = _headers(result.state, result.id if name.startswith("=") else "")
        own = f"{self._root}.{name}".encode()
        if result.reply_to is None or not _ADDRESS.fullmatch(result.reply_to):
            return frame(own, b"", headers, result.document)
        return frame(f"{result.reply_to}.{name}".encode(), b"", headers, result.document) + frame(own, b"", b"", b"")

    def _pushed(self, subject: bytes, _reply: bytes, data: bytes, found: bytes | None) -> None:
        task_id = subject[self._prefix :].decode(errors="replace")
        if not task_id.startswith("="):
            if task_id in self._expected:
                self._take(task_id, data, headers_of(found))
            return
        headers = headers_of(found)
        task_id = unescaped(headers.get(_ID, b""))
        if task_id in self._expected:
            self._take(task_id, data, headers)

    def _announced(self, task_id: str) -> Callable[[bytes, bytes, bytes, bytes | None], None]:
        def announced(_subject: bytes, _reply: bytes, data: bytes, found: bytes | None) -> None:
            if task_id not in self._expected:
                return
            if data:
                self._take(task_id, data, headers_of(found))
            elif self._hint is not None:
                self._hint(task_id)

        return announced

    def _take(self, task_id: str, document: bytes, headers: dict[bytes, bytes]) -> None:
        state = state_of(headers)
        if self._sink is not None and state.terminal:
            self._sink(StoredResult(id=task_id, state=state, document=document))


@lru_cache(maxsize=256)
def _headers(state: TaskState, task_id: str) -> bytes:
    lines = [(STATE, state.value.encode())]
    return block([*lines, (_ID, escaped(task_id))] if task_id else lines)


def state_of(headers: dict[bytes, bytes]) -> TaskState:
    """Return the state that a result's headers tell; FAILURE where it cannot be read: whoever waits looks closer."""
    try:
        return TaskState(headers.get(STATE, b"").decode(errors="replace"))
    except ValueError:
        return TaskState.FAILURE
