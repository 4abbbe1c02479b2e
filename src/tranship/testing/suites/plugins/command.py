"""What a command of a plugin promises."""

from __future__ import annotations

import json
import subprocess
import sys

__all__ = ["CommandSuite"]


class CommandSuite:
    """Fixture: ``command``, its name; the plugin is installed."""

    def test_it_explains_itself(self, command: str) -> None:
        """``--help`` ends well, and says what it is for."""
        done = _tranship(command, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout

    def test_it_is_listed(self, command: str) -> None:
        """``tranship plugins`` has it."""
        plugins = json.loads(_tranship("plugins", "--json").stdout)
        assert command in [part["name"] for one in plugins for part in one["parts"] if part["kind"] == "command"]

    def test_a_wrong_option_is_one_line(self, command: str) -> None:
        """An option that does not exist is a usage error without a traceback."""
        done = _tranship(command, "--no-such-option-of-yours")
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


def _tranship(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tranship", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
