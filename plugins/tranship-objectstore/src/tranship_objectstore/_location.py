"""Where an object is: a URI in parts."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from tranship_objectstore._errors import ObjectRefused

__all__ = ["SCHEMES", "Location", "location_of", "uri_in"]

SCHEMES: Final = ("s3", "gs", "az", "file", "memory")
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Location:
    """One object, or the folder of those whose keys begin with it."""

    scheme: str
    container: str
    """The bucket; empty for ``file``."""
    key: str
    """Without a slash at its beginning."""

    @property
    def uri(self) -> str:
        """As it is written in messages."""
        return f"{self.scheme}://{self.container}/{self.key}"

    @property
    def is_folder(self) -> bool:
        """Whether all objects below it are meant."""
        return not self.key or self.key.endswith("/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return posixpath.basename(self.key.rstrip("/"))

    def under(self, *parts: str) -> Location:
        """Return the object of these parts below this one."""
        key = "/".join([part for part in (self.key.rstrip("/"), *parts) if part])
        return Location(self.scheme, self.container, key)

    def as_folder(self) -> Location:
        """Return the folder of this name."""
        return self if self.is_folder else Location(self.scheme, self.container, f"{self.key}/")

    def holds(self, other: Location) -> bool:
        """Whether ``other`` is below it."""
        mine = f"{self.key.rstrip('/')}/" if self.key else ""
        return (self.scheme, self.container) == (other.scheme, other.container) and other.key.startswith(mine)


def location_of(uri: str) -> Location:
    """Return the location that ``uri`` names.

    Raises:
        ObjectRefused: it names none, or has ``.`` or ``..`` or an empty part in its key.
    """
    scheme, found, rest = uri.partition("://")
    container, _, key = rest.partition("/")
    if not found or scheme not in SCHEMES or (scheme == "file") != (container == "") or "@" in container:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise ObjectRefused(f"{_short(uri)} names no object; expected one of {known} with a bucket and a key")
    parts = key.removesuffix("/").split("/")
    if key and not {"", ".", ".."}.isdisjoint(parts):
        raise ObjectRefused(f"{_short(uri)} has an empty part, '.' or '..' in its key; name the object directly")
    return Location(scheme, container, key)


def uri_in(value: str | PurePath) -> str:
    """Return ``value`` as the URI that it may be: a path has lost one slash, and that at its end."""
    text = str(value)
    if isinstance(value, PurePath):
        scheme, colon, rest = text.partition(":/")
        if colon and scheme in SCHEMES and not rest.startswith("/"):
            return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"
    return text


def _short(uri: str) -> str:
    # What stands before an @ may be a password.
    shown = uri.rpartition("@")[2] if "@" in uri.partition("://")[2].partition("/")[0] else uri
    return repr(shown[:_SHOWN])
