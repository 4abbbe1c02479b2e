"""The prefetch buffer: what was taken and has not been handed out, most urgent first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from tranship.driver._inflight import DeliveryToken

__all__ = ["PrefetchBuffer", "apart_from_suspects"]

SUSPECT: Final = 3
"""A message that is taken for the third time may be what killed those who had it."""


class PrefetchBuffer:
    """What one consumer holds beyond what its receiver asked for.

    Args:
        lease: seconds that a token lasts; None: as long as the connection.
    """

    def __init__(self, lease: float | None) -> None:
        self._lease = lease
        self._tokens: list[DeliveryToken] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def put(self, tokens: Sequence[DeliveryToken]) -> None:
        """Keep what was taken, behind what is here on the same level."""
        self._tokens = sorted([*self._tokens, *tokens], key=lambda token: token.taken.level)

    def has(self, skip: Collection[str]) -> bool:
        """Whether there is anything to hand out beside the queues in ``skip``."""
        return any(token.taken.queue not in skip for token in self._tokens)

    def serve(self, limit: int, skip: Collection[str]) -> list[DeliveryToken]:
        """Hand out up to ``limit``; a suspect only alone."""
        wanted = [token for token in self._tokens if token.taken.queue not in skip][:limit]
        together, _ = apart_from_suspects(wanted)
        self._tokens = [token for token in self._tokens if token not in together]
        return list(together)

    def stale(self, now: float) -> list[DeliveryToken]:
        """Take out what has lain here for so long that its lease may end soon after it is handed out."""
        oldest = now - self._lease / 2 if self._lease is not None else None
        old = [token for token in self._tokens if oldest is not None and token.taken_at < oldest]
        self._tokens = [token for token in self._tokens if token not in old]
        return old

    def clear(self) -> list[DeliveryToken]:
        """Take everything out."""
        tokens, self._tokens = self._tokens, []
        return tokens


def apart_from_suspects(tokens: Sequence[DeliveryToken]) -> tuple[Sequence[DeliveryToken], Sequence[DeliveryToken]]:
    """Return what may travel together, and the rest: those before a suspect, or it alone.

    A suspect takes no innocent message along when it kills its worker once more.
    """
    for at, token in enumerate(tokens):
        if token.taken.count >= SUSPECT and len(tokens) > 1:
            return tokens[: at or 1], tokens[at or 1 :]
    return tokens, ()
