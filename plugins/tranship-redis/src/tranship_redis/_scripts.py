"""The server-side scripts, from the files in ``lua/``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Final

from tranship_redis._pack import Part, pack

__all__ = ["ALL", "Script", "command_at"]

_FOLDER: Final = files("tranship_redis") / "lua"
_SHA: Final = re.compile(r"(?:script: |f_)([0-9a-f]{40})")
_LINE: Final = re.compile(r"@user_script: ?(\d+)")
_INCLUDE: Final = re.compile(rb"^-- include: (\w+)\n", re.MULTILINE)
"""Stands for the text of a file in ``lua/parts``: what several scripts have in common."""
_UNREAD: Final = re.compile(rb"^[ \t]*(?:--[^\n]*)?", re.MULTILINE)
"""What the server does not need to read: comments and indentation."""
_COMMAND: Final = re.compile(r"""["']([A-Z]{3,})["']""")


class Script:
    """One script: its text and the name the server knows it by.

    Args:
        name: of the file ``lua/<name>.lua``.

    Raises:
        FileNotFoundError: there is no such file.
    """

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        whole = _INCLUDE.sub(_part, (_FOLDER / f"{name}.lua").read_bytes())
        self.source: Final = _UNREAD.sub(b"", whole)
        """As the server gets it, with the lines of the file.

        A server that wants a password, which we do not know before it answers, cuts whoever sends a string of more than
        16 KiB before it, instead of saying so.
        """
        self.sha: Final = sha1(self.source, usedforsecurity=False).hexdigest().encode()
        """What EVALSHA takes."""

    def pack(self, keys: Sequence[bytes], args: Sequence[Part]) -> bytes:
        """Return the EVALSHA command."""
        return pack(b"EVALSHA", self.sha, len(keys), *keys, *args)

    def load(self) -> bytes:
        """Return the SCRIPT LOAD command."""
        return pack(b"SCRIPT", b"LOAD", self.source)

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


def _part(found: re.Match[bytes]) -> bytes:
    return (_FOLDER / "parts" / f"{found[1].decode()}.lua").read_bytes()


def _names() -> list[str]:
    found = (entry.name for entry in _FOLDER.iterdir()) if _FOLDER.is_dir() else ()
    return sorted(name.removesuffix(".lua") for name in found if name.endswith(".lua"))


ALL: Final = tuple(Script(name) for name in _names())
"""Every script there is; a link loads them when it connects."""


def command_at(text: str) -> str:
    """Return the command that a script of ours failed at, by what the server says of it; empty: not found.

    The server names script and line, but not which of the commands it may not run.
    """
    sha, line = _SHA.search(text), _LINE.search(text)
    script = next((one for one in ALL if sha and one.sha == sha[1].encode()), None)
    if script is None or line is None:
        return ""
    lines = script.source.decode().splitlines()
    found = _COMMAND.search("".join(lines[int(line[1]) - 1 : int(line[1])]))
    return found[1] if found else ""
