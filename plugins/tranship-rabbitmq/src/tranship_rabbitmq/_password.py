"""A password, or token, that a file holds and somebody else renews."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tranship.errors import ConfigurationError, TranshipError
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["LOOK", "PasswordFile"]

log = logging.getLogger("tranship.rabbitmq")

LOOK: Final = 2.0
"""Seconds between two looks into the file."""


class PasswordFile:
    """The file of the option ``password_file``, as one connection sees it.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: str | None = None
        """What the server was told last."""
        self._complained: str | None = None

    def read(self) -> str:
        """Return the password for a new connection.

        Raises:
            ConfigurationError: the file cannot be read, or is empty.
        """
        self._known = self._read()
        return self._known

    async def renew(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Have ``tell`` called with the password, if it is another one than the server knows.

        What fails is logged once and tried again by the next call; the connection lives on the old password until then.
        """
        try:
            found = self._read()
            if found != self._known:
                await tell(found)
                self._known = found
                log.info("the server has been told the new password in %s", self._path)
            self._complained = None
        except (TranshipError, Ended) as error:
            if str(error) != self._complained:
                log.warning("the password in %s has not been renewed: %s", self._path, error)
            self._complained = str(error)

    def _read(self) -> str:
        try:
            data = Path(self._path).read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the password_file {self._path!r} cannot be read: {error}") from error
        # Who writes it with an editor or ``echo`` leaves a line's end behind.
        found = data.decode(errors="surrogateescape").rstrip("\r\n")
        if not found:
            raise ConfigurationError(f"the password_file {self._path!r} is empty; expected a password or token")
        if not found.isprintable():
            # Without a decoder's error, which would show what it found.
            raise ConfigurationError(f"the password_file {self._path!r} holds no line of UTF-8 text")
        return found
