"""One thing there is to say of an app."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Note", "differs", "works"]


@dataclass(frozen=True)
class Note:
    """What it is about, whether it works as it is, and what to know or to do."""

    about: str
    works: bool
    text: str


def works(about: str, text: str) -> Note:
    """Return a note of what stays as it is."""
    return Note(about, True, text)


def differs(about: str, text: str) -> Note:
    """Return a note of what does not."""
    return Note(about, False, text)
