"""Patterns such as ``celery@web-*`` against names, in a time that whoever wrote the pattern cannot stretch.

The language is that of :mod:`fnmatch`: ``*``, ``?``, ``[abc]``, ``[a-z]``, ``[!a-z]``; case matters. ``fnmatch`` itself
makes a regular expression of the pattern, which backtracks, and keeps it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["LONGEST", "matches"]

LONGEST: Final = 256
"""Characters of a pattern; matching takes at most as many steps for each character of the name."""


class _Class(NamedTuple):
    """What one character of a name may be."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def has(self, character: str) -> bool:
        """Whether it may be ``character``."""
        return any(low <= character <= high for low, high in self.ranges) is not self.negated


_ANY: Final = _Class((("\0", "\U0010ffff"),))
_STAR: Final = _Class(())
"""Stands for any number of characters; compared by identity."""


def matches(name: str, pattern: str) -> bool:
    """Whether the whole of ``name`` fits ``pattern``; the caller sees to its length."""
    items = _items(pattern)
    at = item = 0
    star, begun = -1, 0
    while at < len(name):
        if item < len(items) and items[item] is _STAR:
            star, begun = item, at
            item += 1
        elif item < len(items) and items[item].has(name[at]):
            at, item = at + 1, item + 1
        elif star >= 0:
            # Only the last star has to take more: those before it have found the shortest fit already.
            begun += 1
            at, item = begun, star + 1
        else:
            return False
    return all(one is _STAR for one in items[item:])


def _items(pattern: str) -> list[_Class]:
    items: list[_Class] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if not items or items[-1] is not _STAR:
                items.append(_STAR)
        elif character == "?":
            items.append(_ANY)
        elif character == "[" and (end := _end(pattern, at)) > 0:
            items.append(_class(pattern[at:end]))
            at = end + 1
        else:
            items.append(_Class(((character, character),)))
    return items


def _end(pattern: str, start: int) -> int:
    """Where the bracket that was opened before ``start`` closes; -1: it does not, and is a character like others."""
    first = start + pattern.startswith("!", start)
    return pattern.find("]", first + 1)


def _class(text: str) -> _Class:
    negated = text.startswith("!")
    rest = text[negated:]
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(rest):
        is_range = rest[at + 1 : at + 2] == "-" and at + 2 < len(rest)
        last = at + 2 if is_range else at
        ranges.append((rest[at], rest[last]))
        at = last + 1
    return _Class(tuple(ranges), negated)
