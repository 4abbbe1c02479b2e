"""The errors of stages; they stand alone, like the rest of the package."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PhaseCancelled", "PlanError"]


class PlanError(ValueError):
    """A plan cannot be built. ``problems`` has one line for each thing that is wrong, with the task's name."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        more = "" if len(self.problems) == 1 else f"{len(self.problems)} problems:\n"
        super().__init__(more + "\n".join(self.problems))


class PhaseCancelled(Exception):
    """A phase function ended with CancelledError although the run had not asked it to stop.

    It counts as a failure: its task has not succeeded. The CancelledError is the ``__cause__``.
    """
