"""Templates, filled in and written into a directory that has nothing in it yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template
from typing import Final

from tranship.errors import ConfigurationError

__all__ = ["written"]

_HIDDEN: Final = frozenset({"dockerignore", "gitignore", "github"})
"""Names that begin with a dot where they are written to."""


def written(kind: str, words: Mapping[str, str], target: Path, *, cure: str, beside: Collection[str] = ()) -> None:
    """Write the templates of a kind into ``target``, which is made where it is not there.

    Args:
        kind: the directory of templates.
        words: what the templates speak of, by its name there; ``package`` is also the name of a directory.
        target: where to.
        cure: what to do about a directory that has something in it.
        beside: names that may be there already, and are left alone.

    Raises:
        ConfigurationError: the directory has something in it, is none, or cannot be written.
    """
    try:
        if target.exists() and (not target.is_dir() or {one.name for one in target.iterdir()} - {*beside}):
            what = "is not empty" if target.is_dir() else "is no directory"
            raise ConfigurationError(f"{target} is there already and {what}; {cure}")
        for path, text in _files(kind, words):
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{error.filename or target} cannot be written: {error.strerror}") from error


def _files(kind: str, words: Mapping[str, str]) -> Iterator[tuple[PurePosixPath, str]]:
    for parts, entry in _templates(resources.files(__package__) / "files" / kind, ()):
        names = [words["package"] if part == "package" else f".{part}" if part in _HIDDEN else part for part in parts]
        yield PurePosixPath(*names), Template(entry.read_text("utf-8")).substitute(words)


def _templates(directory: Traversable, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, (*above, entry.name))
        elif entry.name.endswith(".tmpl"):
            yield (*above, entry.name.removesuffix(".tmpl")), entry
