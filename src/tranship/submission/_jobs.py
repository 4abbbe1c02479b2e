"""What is queued: callers' batches, and parts of them on their way to the broker."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from tranship.envelope import Receipt
from tranship.errors import SubmitUnknown, TranshipError
from tranship.protocol import Message

__all__ = ["Answer", "Doubtful", "Flight", "Job", "Span", "ThreadWaiter", "Waiter"]

Answer = Receipt | TranshipError
"""What became of one message."""


class Waiter(Protocol):
    """An asyncio or a concurrent future: who waits for the answers of one batch."""

    def done(self) -> bool:
        """Whether it has been answered or cancelled."""

    def set_result(self, result: list[Answer], /) -> None:
        """Answer it."""


class ThreadWaiter:
    """A waiter for one thread: a bare lock, at a fifth of what a concurrent future costs both sides."""

    __slots__ = ("_answers", "_lock")

    def __init__(self) -> None:
        self._answers: list[Answer] | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def done(self) -> bool:
        """Whether it has been answered."""
        return self._answers is not None

    def set_result(self, result: list[Answer], /) -> None:
        """Answer it, once; any thread."""
        self._answers = result
        self._lock.release()

    def wait(self) -> list[Answer]:
        """Return the answers; to be called once. A signal's handler may raise, and interrupt it."""
        self._lock.acquire()
        assert self._answers is not None
        return self._answers


class Job:
    """One caller's messages and their answers."""

    __slots__ = ("answers", "left", "messages", "posted", "waiter")

    def __init__(self, messages: Sequence[Message], waiter: Waiter) -> None:
        self.messages = messages
        self.answers: list[Any] = [None] * len(messages)
        self.left = len(messages)
        self.posted = time.monotonic()
        self.waiter = waiter

    def answer(self, start: int, answers: Sequence[Answer]) -> None:
        """Note the answers of the messages from ``start`` on; the last ones release the waiter."""
        self.answers[start : start + len(answers)] = answers
        self.left -= len(answers)
        if self.left == 0 and not self.waiter.done():
            try:
                self.waiter.set_result(self.answers)
            except (asyncio.InvalidStateError, concurrent.futures.InvalidStateError):
                return  # a caller in another thread has cancelled its future between the check and the answer


Span = tuple[Job, int, int]
"""A run of one job's messages: from, to (exclusive)."""


Doubtful = dict[str, SubmitUnknown | None]
"""Ids whose answer was lost, and what was said of it, if anything was."""


class Flight:
    """Messages on their way to the broker, until each is answered for good."""

    __slots__ = ("batch", "deadline", "doubtful", "pause", "under_way")

    def __init__(self, batch: list[Span], deadline: float, pause: float) -> None:
        self.batch = batch
        self.deadline = deadline
        self.pause = pause
        self.doubtful: Doubtful = {}
        """Only an answer to the very same message clears one."""
        self.under_way = False
        """Handed to the driver, and not answered yet."""
