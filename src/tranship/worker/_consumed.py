"""Which queues a worker consumes right now: those it was given, those added since, without those that are paused."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ConsumedQueues"]


class ConsumedQueues:
    """Those of one worker at work. Changed on its I/O loop; read on any thread.

    Args:
        names: what it was given.

    Attributes:
        known: every queue that its consumer has, in order; replaced as a whole.
        paused: those of them from which nothing is taken; replaced as a whole.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.known: Sequence[str] = tuple(names)
        self.paused: frozenset[str] = frozenset()

    @property
    def names(self) -> Sequence[str]:
        """Those from which it takes."""
        return [one for one in self.known if one not in self.paused] if self.paused else self.known

    @property
    def none_left(self) -> bool:
        """Whether all of them are paused."""
        return len(self.paused) == len(self.known)

    def add(self, name: str) -> None:
        """Consume one more, behind the others."""
        self.known = (*self.known, name)

    def pause(self, name: str) -> None:
        """Take nothing from it, until :meth:`resume`."""
        self.paused |= {name}

    def resume(self, name: str) -> None:
        """Take from it again."""
        self.paused -= {name}
