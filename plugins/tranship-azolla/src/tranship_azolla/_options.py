"""What may be said of an orchestrator or a shepherd in a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tranship.checks import positive
from tranship.settings import CommonOptions

__all__ = ["AzollaOptions"]

_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class AzollaOptions(CommonOptions):
    """URL options of orchestrators and shepherds. The namespace is the domain."""

    max_message_size: int = 4 * _MEBIBYTE
    """Bytes of one message, either way: what gRPC's servers take unless they are told otherwise."""
    connect_timeout: float = 5.0
    """How long the first answer may take."""
    command_timeout: float = 10.0
    """How long each other answer may take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("connect_timeout", "command_timeout"):
            positive(name, getattr(self, name))
