"""A server that somebody else runs."""

from __future__ import annotations

import socket
from typing import NoReturn
from urllib.parse import urlsplit

from tranship.errors import UnsupportedError
from tranship.settings import BrokerURL
from tranship.testing.services._contract import ServiceFailed

__all__ = ["ExternalService"]


class ExternalService:
    """A server given by its URL: tests use it and cannot harm it.

    Args:
        name: what it is, such as ``"redis"``.
        url: where it listens, with host and port.
    """

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url

    @property
    def controllable(self) -> bool:
        """False: it is not ours."""
        return False

    def start(self) -> str:
        """Check that something listens at the URL and return it. Raises ServiceFailed."""
        parts = urlsplit(self.url)
        try:
            if parts.hostname and parts.port:
                socket.create_connection((parts.hostname, parts.port), timeout=5.0).close()
        except OSError as error:
            raise ServiceFailed(
                f"Nothing listens at {BrokerURL.parse(self.url)} ({error}); "
                f"start {self.name!r} there, or unset TRANSHIP_TEST_{self.name.upper()}_URL."
            ) from error
        return self.url

    def stop(self) -> None:
        """Raise UnsupportedError."""
        self._refuse("stop")

    def kill(self) -> None:
        """Raise UnsupportedError."""
        self._refuse("kill")

    def restart(self) -> str:
        """Raise UnsupportedError."""
        self._refuse("restart")

    def pause(self) -> None:
        """Raise UnsupportedError."""
        self._refuse("pause")

    def resume(self) -> None:
        """Raise UnsupportedError."""
        self._refuse("resume")

    def logs(self) -> str:
        """Raise UnsupportedError."""
        self._refuse("read the logs of")

    def ended(self) -> str:
        """Nothing: it is watched by somebody else."""
        return ""

    def client_count(self) -> int:
        """Raise UnsupportedError."""
        self._refuse("count the clients of")

    def close(self) -> None:
        """Leave it running."""

    def _refuse(self, verb: str) -> NoReturn:
        raise UnsupportedError(
            f"Cannot {verb} {self.name!r}: it was given by URL and is not ours; "
            f"unset TRANSHIP_TEST_{self.name.upper()}_URL to have one started for the tests."
        )
