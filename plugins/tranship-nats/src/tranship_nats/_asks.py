"""Requests that wait for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from tranship.errors import BrokerRefused, MessageTooLarge, TranshipError
from tranship_nats._errors import NoAnswer

__all__ = ["Answer", "Ask", "Pending", "Round", "too_large"]

Answer = tuple[bytes | None, bytes] | TranshipError
"""A block of headers and a payload; or why there is no answer."""
Ask = tuple[bytes, bytes, bytes]
"""Subject, block of headers and payload of a request."""


class Round:
    """Requests that are answered together.

    Args:
        size: how many.
        then: called once, with the answers in order, when the last has come.
    """

    __slots__ = ("_answers", "_left", "_then")

    def __init__(self, size: int, then: Callable[[list[Answer]], object]) -> None:
        self._answers: list[Answer] = [(None, b"")] * size
        self._left = size
        self._then = then

    def answer(self, index: int, answer: Answer) -> None:
        """Note one answer."""
        self._answers[index] = answer
        self._left -= 1
        if not self._left:
            self._then(self._answers)


class Pending:
    """The requests of one link that are not answered yet.

    Args:
        place: the servers, for messages.
        inbox: answers come to subjects that begin with it.
        timeout: seconds after which a request is given up.
    """

    def __init__(self, place: str, inbox: bytes, timeout: float) -> None:
        self.inbox = inbox
        self._place = place
        self._timeout = timeout
        self._waiting: dict[bytes, tuple[Round, int, float, bytes]] = {}
        self._numbers = count(1)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, round_: Round, index: int, subject: bytes) -> bytes:
        """Expect an answer; return the subject it has to come to."""
        number = b"%x" % next(self._numbers)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        self._waiting[number] = (round_, index, deadline, subject)
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire)
        return self.inbox + number

    def answered(self, subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Take an answer."""
        waiting = self._waiting.pop(subject[len(self.inbox) :], None)
        if waiting is not None:
            waiting[0].answer(waiting[1], (headers, data))

    def denied(self, text: str) -> bool:
        """Answer those who asked on a subject that is not allowed: the server sends them nothing. Whether any did."""
        hit = [number for number, entry in self._waiting.items() if f'"{entry[3].decode().lower()}"' in text]
        for number in hit:
            round_, index, _, subject = self._waiting.pop(number)
            round_.answer(
                index, BrokerRefused(f"{self._place} said {text}: let this user publish to {subject.decode()}")
            )
        return bool(hit)

    def fail(self, error: TranshipError) -> None:
        """Answer everybody with ``error``."""
        waiting, self._waiting = self._waiting, {}
        for round_, index, _, _ in waiting.values():
            round_.answer(index, error)

    def close(self) -> None:
        """Give up nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        """Give up what has waited too long: the first ones, as all wait equally long."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = []
        for number, (_, _, deadline, _) in self._waiting.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._expire)
                break
            late.append(number)
        for number in late:
            round_, index, _, subject = self._waiting.pop(number)
            round_.answer(index, self._unanswered(subject))

    def _unanswered(self, subject: bytes) -> NoAnswer:
        return NoAnswer(
            f"{self._place} has not answered within {self._timeout:g} s on {subject.decode()[:120]}: "
            "a stream without a quorum, a user without rights, or a server that is overloaded"
        )


def too_large(size: int, limit: int) -> MessageTooLarge:
    """Return the error for a message that the server would drop the connection for."""
    text = f"a message is {size:,} bytes with its headers, the server takes {limit:,}; raise its max_payload"
    return MessageTooLarge(text, size=size, limit=limit)
