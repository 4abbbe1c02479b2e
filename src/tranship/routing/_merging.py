"""Deliveries of several brokers in one order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tranship.ports import Delivery
from tranship.routing._seat import Seat

__all__ = ["Part", "hungry", "merge"]

ALONE: Final = 3
"""A message delivered this often may be what kills its workers, and travels alone."""


@dataclass(slots=True)
class Part:
    """What one broker brought: its best first, and whether it may have as good ones left."""

    seat: Seat
    deliveries: list[Delivery]
    asked: int

    @property
    def is_full(self) -> bool:
        """Whether it brought all that was asked for."""
        return len(self.deliveries) >= self.asked

    @property
    def worst(self) -> int:
        """The level of its last one."""
        return self.deliveries[-1].priority


def hungry(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Return the parts that may go on with something better than what others brought, and how much of that there is."""
    found = []
    for part in parts:
        if not part.deliveries or not part.is_full:
            continue
        worse = sum(one.priority > part.worst for other in parts if other is not part for one in other.deliveries)
        if worse:
            found.append((part, worse))
    return found


def merge(
    parts: Sequence[Part], limit: int, served: Mapping[str, int]
) -> tuple[list[tuple[Part, Delivery]], list[tuple[Part, Delivery]]]:
    """Return what is to be delivered, at most ``limit``, and what is to be given back.

    Args:
        parts: what has come, in an order of brokers that rotates.
        limit: how much is wanted.
        served: when each queue was last served; larger is later.
    """
    ranked = _ranked(parts, served)
    suspects = [entry for entry in ranked if entry[1].delivery_count >= ALONE]
    if not suspects:
        return ranked[:limit], ranked[limit:]
    if ranked[0] in suspects:
        return ranked[:1], ranked[1:]
    innocent = [entry for entry in ranked if entry not in suspects]
    return innocent[:limit], [*suspects, *innocent[limit:]]


def _ranked(parts: Sequence[Part], served: Mapping[str, int]) -> list[tuple[Part, Delivery]]:
    """By level; equals of different brokers alternate, the queue that has waited longest first."""
    keyed = [
        ((one.priority, place, served.get(one.queue, -1), number), part, one)
        for number, part in enumerate(parts)
        for place, one in enumerate(part.deliveries)
    ]
    keyed.sort(key=lambda entry: entry[0])
    return [(part, one) for _, part, one in keyed]
