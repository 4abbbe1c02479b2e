"""The in-flight table: what was handed out and has not been settled, and what was said of it before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tranship.driver._delay import DelayedRow
from tranship.driver._nouns import Taken
from tranship.driver._rows import stamp
from tranship.ports import Settled

__all__ = ["DeliveryToken", "InFlightTable"]

REMEMBERED: Final = 10_000


@dataclass(slots=True, eq=False)
class DeliveryToken:
    """What is behind one delivery."""

    taken: Taken
    generation: int
    """The connection it came over."""
    taken_at: float = 0.0
    """By the loop's clock."""
    delayed: DelayedRow | None = None
    """It was taken before it was due, out of the table."""
    mark: str = field(default_factory=stamp)
    """Makes the keys of what is stored when it ends: settled again after a lost answer, it stores nothing new."""
    unsure: bool = False
    """An end of it was sent whose answer is not known."""


class InFlightTable:
    """The tokens of one consumer."""

    def __init__(self) -> None:
        self._tokens: dict[DeliveryToken, None] = {}
        self._told: dict[DeliveryToken, Settled] = {}

    def __contains__(self, token: DeliveryToken) -> bool:
        return token in self._tokens

    def add(self, tokens: Iterable[DeliveryToken]) -> None:
        """They are handed out."""
        self._tokens.update(dict.fromkeys(tokens))

    def drop(self, tokens: Iterable[DeliveryToken]) -> None:
        """They are settled, released or lost."""
        for token in tokens:
            self._tokens.pop(token, None)

    def clear(self) -> list[DeliveryToken]:
        """Return what is in flight, which then is not any more."""
        tokens = list(self._tokens)
        self._tokens.clear()
        return tokens

    def remember(self, token: DeliveryToken, answer: Settled) -> None:
        """Note an answer that its caller did not hear, because another one of the batch failed."""
        self._told[token] = answer
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    def told(self, token: DeliveryToken) -> Settled | None:
        """Return, once, the answer that nobody has heard: settled again, say the same again."""
        return self._told.pop(token, None)
