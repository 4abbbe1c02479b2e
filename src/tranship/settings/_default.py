"""Where tranship is when nobody says anything: one file in the user's state directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tranship.settings._url import BrokerURL

__all__ = ["default_broker_url", "state_file"]


def state_file(environ: Mapping[str, str]) -> Path:
    r"""Return the file that ``sqlite://`` stands for; nothing is created.

    ``$XDG_STATE_HOME/tranship/tranship.db`` or ``~/.local/state/...`` on Linux,
    ``~/Library/Application Support/...`` on macOS, ``%LOCALAPPDATA%\tranship\...`` on Windows.
    """
    return _state_directory(environ) / "tranship" / "tranship.db"


def default_broker_url(environ: Mapping[str, str]) -> BrokerURL:
    """Return the URL of the embedded broker that is used when none is configured."""
    path = state_file(environ).as_posix()
    return BrokerURL(scheme="sqlite", path=f"/{path}")


def _state_directory(environ: Mapping[str, str]) -> Path:
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    given = Path(environ.get("XDG_STATE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return given if given.is_absolute() else home / ".local" / "state"
