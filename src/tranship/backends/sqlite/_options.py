"""The URL options of the SQLite backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tranship.checks import not_negative
from tranship.settings import CommonOptions

__all__ = ["SqliteOptions"]


@dataclass(frozen=True, kw_only=True)
class SqliteOptions(CommonOptions):
    """Options after the ``?`` of a ``sqlite://`` URL; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    durability: Literal["power", "process"] = "power"
    """What an accepted task survives: a power cut, or the death of every process (faster on slow disks)."""
    aging: float = 0.0
    """Seconds of waiting that are worth one priority level; 0: strict order by level."""
    busy_timeout: float = 10.0
    """How long to wait for other processes before a call fails as unreachable."""
    allow_network_fs: bool = False
    """Use a file on a network file system all the same. SQLite's locks and shared memory need one host."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("aging", "busy_timeout"):
            not_negative(name, getattr(self, name))
