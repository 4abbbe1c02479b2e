"""The client library below: which versions the way past its reader has been tried with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from tranship.errors import ConfigurationError

__all__ = ["TRIED", "check"]

TRIED: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "aio-pika": ((10, 2, 1), (10, 3)),
    "aiormq": ((7, 2, 4), (7, 3)),
}
"""From which version on, and below which one. ``pyproject.toml`` says the same."""


def check(installed: Callable[[str], str] = version) -> None:
    """Do nothing if the installed client library is one that is known to work.

    Our channels take their frames before the library sees them, which depends on how it connects, greets and watches
    the connection. A version that does one of them in another way would lose connections or messages, late and
    in strange words.

    Raises:
        ConfigurationError: it is another version, or not installed.
    """
    for name, (oldest, below) in TRIED.items():
        wanted = f"'{name}>={_dotted(oldest)},<{_dotted(below)}'"
        try:
            found = installed(name)
        except PackageNotFoundError:
            raise ConfigurationError(
                f"tranship-rabbitmq needs {name}, which is not installed: install {wanted}"
            ) from None
        if not oldest <= _numbers(found) < below:
            raise ConfigurationError(
                f"{name} {found} is installed, with which tranship-rabbitmq has not been tried: install {wanted}"
            )


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in front of ``text``, a version."""
    found: list[int] = []
    for part in text.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        found.append(int(part))
    return tuple(found)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
