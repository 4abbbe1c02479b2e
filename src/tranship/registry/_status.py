"""What became of each plugin."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import NamedTuple

from tranship.errors import PluginError
from tranship.hookspecs import BackendSpec, PluginPart

__all__ = ["PluginState", "PluginStatus", "canonical"]


class PluginState(enum.StrEnum):
    """What became of a plugin when the registry was made."""

    LOADED = "loaded"
    FAILED = "failed"
    """It is installed, but broken, misspelt or made for another API version."""
    BLOCKED = "blocked"
    """It was not loaded because TRANSHIP_LOAD_PLUGINS or TRANSHIP_BLOCK_PLUGINS says so."""
    MISSING = "missing"
    """TRANSHIP_LOAD_PLUGINS names it, and it is not installed."""


class PluginStatus(NamedTuple):
    """One line of ``tranship plugins``."""

    name: str
    """Of the entry point."""
    origin: Callable[[], tuple[str, str]] = lambda: ("", "")
    """Reads name and version of the distribution: it takes milliseconds, and hardly anybody asks."""
    state: PluginState = PluginState.LOADED
    parts: tuple[PluginPart, ...] = ()
    """Everything that it describes."""
    error: PluginError | None = None
    """Why it is not loaded; the native error is its ``__cause__``."""

    @property
    def distribution(self) -> str:
        """What pip calls it; empty when it was registered at run time."""
        return self.origin()[0]

    @property
    def version(self) -> str:
        """Of the distribution; empty where there is none."""
        return self.origin()[1]

    @property
    def backends(self) -> tuple[BackendSpec, ...]:
        """Its brokers and result stores: what serves URLs."""
        return tuple(one for one in self.parts if isinstance(one, BackendSpec))

    @property
    def label(self) -> str:
        """The plugin as errors name it."""
        shown = f"{self.distribution} {self.version}".strip()
        return f"{self.name} ({shown})" if shown and shown != self.name else self.name

    def is_called(self, names: frozenset[str]) -> bool:
        """Whether the plugin or its distribution is among ``names`` (canonical ones)."""
        return bool(names) and not names.isdisjoint((canonical(self.name), canonical(self.distribution)))


def canonical(name: str) -> str:
    """Return ``name`` as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()
