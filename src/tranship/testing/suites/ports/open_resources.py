"""What a process holds open, counted before and after."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tranship.connections import process_table
from tranship.testing.context import CaseContext

__all__ = ["OpenResources", "given_back"]

_CALLER = "kit-caller"
"""Threads in which the kit itself makes calls: each ends a moment after its call."""


@dataclass(frozen=True)
class OpenResources:
    """What is held at one moment."""

    connections: int
    """As the broker counts them; links, where it cannot."""
    files: int
    threads: Mapping[str, int]
    """How many there are, by name; without the kit's own."""

    @classmethod
    async def now(cls, context: CaseContext) -> Self:
        """Count what this process holds."""
        connections = await context.harness.connections() or process_table().links()
        names = [one.name for one in threading.enumerate() if one.name != _CALLER]
        return cls(connections, _open_files(), Counter(names))

    def within(self, before: OpenResources) -> bool:
        """Whether there is no more of anything than ``before``."""
        return (
            self.connections <= before.connections
            and self.files <= before.files
            and sum(self.threads.values()) <= sum(before.threads.values())
        )


async def given_back(context: CaseContext, before: OpenResources) -> None:
    """Return when no more is held than ``before``, or fail and say what is."""
    now = before

    async def back() -> bool:
        nonlocal now
        now = await OpenResources.now(context)
        return now.within(before)

    try:
        await context.eventually(back, "everything is given back")
    except AssertionError as error:
        raise AssertionError(f"{error}: there was {before}, and there is {now}") from None


def _open_files() -> int:
    """Open files of this process; 0 where the system does not list them."""
    for listing in ("/proc/self/fd", "/dev/fd"):
        if Path(listing).is_dir():
            return len(os.listdir(listing))  # noqa: PTH208 - iterdir() fails on entries that vanish
    return 0
