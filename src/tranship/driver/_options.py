"""What may be said of a connection in a URL."""

from __future__ import annotations

from dataclasses import dataclass

from tranship.checks import positive
from tranship.driver._timing import Timing
from tranship.settings import CommonOptions

__all__ = ["ConnectionOptions"]


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions(CommonOptions):
    """URL options of a broker with a connection."""

    connect_timeout: float = 5.0
    """Seconds for one attempt to connect."""
    command_timeout: float = 10.0
    """Seconds without an answer after which a connection is given up."""
    keepalive: float = 5.0
    """Seconds between two looks at an idle connection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("connect_timeout", "command_timeout", "keepalive"):
            positive(name, getattr(self, name))

    @property
    def timing(self) -> Timing:
        """The same for the kit."""
        return Timing(connect=self.connect_timeout, command=self.command_timeout, keepalive=self.keepalive)
