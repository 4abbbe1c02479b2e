"""Faults that are asked for in a URL: which calls of the broker in this process go wrong, for tests."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.backends.memory._connection import MemoryQueue
from tranship.checks import invalid
from tranship.driver import Answer, End, Ending, Outgoing, Slot, TakenBatch
from tranship.errors import BrokerUnreachable, SubmitUnknown
from tranship.ports import Settled

__all__ = ["FailingQueue", "Faults", "faults_of"]

VERBS: Final = ("submit", "submit-unknown", "receive", "settle", "settle-unknown")
_RATE: Final = re.compile(r"0?\.\d+|0")
_NUMBER: Final = re.compile(r"[1-9]\d*")
_EXPECTED: Final = (
    f"parts such as submit:0.1,settle:3, each of {', '.join(VERBS)} with a rate below 1 or the number of the first "
    "ones that fail"
)


@dataclass(slots=True)
class _Fault:
    """How often one verb goes wrong."""

    rate: float
    left: int
    chance: random.Random

    def hits(self) -> bool:
        """Say whether it hits the next one."""
        if self.left:
            self.left -= 1
            return True
        return self.rate > 0 and self.chance.random() < self.rate


class Faults:
    """What goes wrong at one broker, for all its clients and workers; used under the broker's lock.

    Submits are counted by message, so that the same ones meet the same faults whatever travels together; what receives
    and settles several is counted once.

    Args:
        rules: rate and number, by verb.
        seed: of the chances.
    """

    def __init__(self, rules: dict[str, tuple[float, int]], seed: int) -> None:
        self._faults = {
            verb: _Fault(rate, number, random.Random(f"{seed}/{verb}")) for verb, (rate, number) in rules.items()
        }

    def hits(self, verb: str) -> bool:
        """Say whether the next ``verb`` goes wrong."""
        fault = self._faults.get(verb)
        return fault is not None and fault.hits()


def faults_of(text: str) -> dict[str, tuple[float, int]]:
    """Return the rules that an option ``fail`` stands for.

    Raises:
        InvalidOptionError: it is none.
    """
    return dict(_rules(text))


def _rules(text: str) -> Iterator[tuple[str, tuple[float, int]]]:
    for part in filter(None, text.split(",")):
        verb, _, amount = part.partition(":")
        if verb not in VERBS:
            raise invalid("fail", text, _EXPECTED)
        if _RATE.fullmatch(amount):
            yield verb, (float(amount), 0)
        elif _NUMBER.fullmatch(amount):
            yield verb, (0.0, int(amount))
        else:
            raise invalid("fail", text, _EXPECTED)


class FailingQueue(MemoryQueue):
    """All queues of a namespace, some of whose verbs go wrong on purpose.

    Args:
        faults: how often.
        others: what a queue without faults is made of.
    """

    def __init__(self, faults: Faults, *others: Any, **options: Any) -> None:
        super().__init__(*others, **options)
        self._faults = faults

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Add messages; some are not added, and of some nobody learns that they are."""
        with self._space.guard:
            return [self._send_or_fail(message) for message in batch]

    def _send_or_fail(self, message: Outgoing) -> Answer:
        if self._faults.hits("submit"):
            return BrokerUnreachable("submit fails on purpose (option fail of the URL); the task is not stored")
        answer = self._send(message)
        if self._faults.hits("submit-unknown"):
            return SubmitUnknown("the answer to a submit is lost on purpose (option fail of the URL)")
        return answer

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Claim what is ready, or give it back and fail."""
        batch = await super().take(slots, limit, wait)
        with self._space.guard:
            if not batch.items or not self._faults.hits("receive"):
                return batch
            for one in batch.items:
                self._end(Ending(one.token, End.RELEASE))
        raise BrokerUnreachable("receive fails on purpose (option fail of the URL); nothing was taken")

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled]:
        """End what is ours; or fail, with nothing done or with everything done."""
        with self._space.guard:
            if self._faults.hits("settle"):
                raise BrokerUnreachable("settle fails on purpose (option fail of the URL); nothing was settled")
            answers = [self._end(one) for one in endings]
            if self._faults.hits("settle-unknown"):
                raise BrokerUnreachable("the answer to a settle is lost on purpose (option fail of the URL)")
            return answers
