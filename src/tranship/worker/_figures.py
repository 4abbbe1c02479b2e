"""The machine and the process, from the standard library: what cannot be known here is None."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from tranship.ports import HostFigures

__all__ = ["Figures"]

_MEMINFO: Final = Path("/proc/meminfo")
_STATM: Final = Path("/proc/self/statm")


class Figures:
    """Reads them, again and again: a few microseconds each time, and nothing waits."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._cpu_at = time.process_time()

    def read(self) -> HostFigures:
        """Return what holds now; the process's CPUs are those since the read before."""
        memory, available = _memory()
        return HostFigures(
            cpus=_cpus(),
            load=_load(),
            memory=memory,
            memory_available=available,
            process_cpu=self._busy(),
            process_memory=process_memory(),
        )

    def _busy(self) -> float | None:
        now, cpu = time.monotonic(), time.process_time()
        seconds, used = now - self._read_at, cpu - self._cpu_at
        self._read_at, self._cpu_at = now, cpu
        return round(used / seconds, 3) if seconds > 0 else None


def process_memory() -> int | None:
    """Return the bytes that this process occupies; None: the platform does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _cpus() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count()


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _memory() -> tuple[int | None, int | None]:
    found: dict[str, int] = {}
    try:
        with _MEMINFO.open() as lines:
            for line in lines:
                name, _, text = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = _bytes(text)
                if len(found) == 2:
                    # They are among the first of some fifty.
                    return found["MemTotal"], found["MemAvailable"]
    except (OSError, ValueError, IndexError):
        pass
    return _physical(), None


def _bytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None
