"""A small application: two tasks, a program that submits, a test, and what runs it beside Redis."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from typing import Final

from tranship.errors import ConfigurationError
from tranship.testing.scaffold._writing import written

__all__ = ["new_app"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_BESIDE: Final = frozenset({".git", ".venv"})
"""What a directory may have in it that is about to become an application."""
_TAKEN: Final = frozenset({"pytest", "tasks", "test", "tests", "tranship"})
"""Names of modules that would be found in place of others, beside those of the standard library."""


def new_app(directory: Path, name: str | None = None) -> Path:
    """Write a small application into ``directory`` and return the directory.

    Args:
        directory: where to; it is made where it is not there, and has nothing in it but ``.git`` and ``.venv``.
        name: of the distribution, and of its package; None: that of the directory.

    Raises:
        ConfigurationError: the name cannot be one, the directory has something in it, or cannot be written.
    """
    directory = Path(directory)
    chosen = directory.resolve().name if name is None else name
    package = _package(chosen)
    words = {"name": package.replace("_", "-"), "package": package}
    written("app", words, directory, cure="choose another: tranship init DIRECTORY", beside=_BESIDE)
    return directory


def _package(name: str) -> str:
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a package: expected small letters, digits and single hyphens or "
            "underscores, a letter first, such as shop or my-shop; --name gives one that is not the directory's"
        )
    if package in sys.stdlib_module_names or package in _TAKEN:
        raise ConfigurationError(
            f"{name!r} is the name of a module that others import; choose another, such as {package}_app, with --name"
        )
    return package
