"""What a plugin implements: mark a function with :data:`hookimpl` and name its module as an entry point.

::

    # pyproject.toml
    [project.entry-points.tranship]
    mine = "tranship_mine.plugin"

    # tranship_mine/plugin.py: imports nothing heavy
    from tranship.hookspecs import BackendSpec, hookimpl

    @hookimpl
    def tranship_register_backends(register):
        register(BackendSpec(name="mine", schemes=("mine",), factory="tranship_mine.backend:MineBackend"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["API_VERSION", "PROJECT", "BackendSpec", "hookimpl", "hookspec", "tranship_register_backends"]

API_VERSION: Final = (2, 0)
"""Of the ports and hooks: a plugin of another major is refused, of a newer minor is warned about."""

PROJECT: Final = "tranship"
"""pluggy's project name, and the group of the entry points."""

F = TypeVar("F", bound=Callable[..., Any])


def hookimpl(function: F) -> F:
    """Mark ``function`` as the implementation of the hook of the same name."""
    from pluggy import HookimplMarker

    return HookimplMarker(PROJECT)(function)


def hookspec(function: F) -> F:
    """Mark ``function`` as a hook that plugins may implement."""
    from pluggy import HookspecMarker

    return HookspecMarker(PROJECT)(function)


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend, described without importing it."""

    name: str
    schemes: tuple[str, ...]
    """URL schemes it serves, in lower case."""
    factory: str
    """``"package.module:Class"``, imported when a URL of its schemes is opened; called with a BackendConfig."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    requirement: str = ""
    """What ``pip install`` needs to be told when the factory's imports fail, such as ``"redis>=6"``."""
    api_version: tuple[int, int] = API_VERSION
    """The :data:`API_VERSION` it was written for, as numbers; not given: the one that is here."""


def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Call ``register`` once for each backend. Called once, when the plugin is loaded."""
