"""Who is next: shares by weight, and one broker for all that belongs together. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

__all__ = ["Turns", "rank"]

T = TypeVar("T")


class Turns(Generic[T]):
    """Smooth weighted round robin: shares by weight, in a sequence that is as even as it can be.

    Each turn everybody gains their weight, and who has most is chosen and pays what all have gained. Who is away
    gains nothing, so nobody is flooded when they come back.

    Args:
        weights: by whom; above 0.
    """

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._weights = dict(weights)
        self._credit = dict.fromkeys(self._weights, 0.0)

    def next(self, there: Sequence[T]) -> T:
        """Return whose turn it is among ``there``, which is not empty."""
        credit, total = self._credit, 0.0
        best = there[0]
        for one in there:
            weight = self._weights[one]
            total += weight
            credit[one] += weight
            if credit[one] > credit[best]:
                best = one
        credit[best] -= total
        return best


def rank(key: str, places: Mapping[T, tuple[str, float]]) -> list[T]:
    """Return everybody in ``places`` in the order that ``key`` has for them: weighted rendezvous hashing.

    The same everywhere where the names are the same; when one goes away, only its keys move.

    Args:
        key: what belongs together.
        places: name and weight, by whom.
    """
    return sorted(places, key=lambda one: _score(key, *places[one]), reverse=True)


def _score(key: str, name: str, weight: float) -> float:
    digest = hashlib.blake2b(f"{name}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    share = (int.from_bytes(digest) + 1) / (2**64 + 2)
    return -weight / math.log(share)
