"""Somebody who has a clone and Python, and nothing else, types README and tutorial into a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from snippets import Block, Reader, blocks, check, commands, unmatched

ROOT: Final = Path(__file__).parents[2]
CLONE: Final = ("README.md", "LICENSE", "pyproject.toml", "src", "plugins")
INSTALLED: Final = "not run: the tests have it installed"
"""What other tests leave out, since they have it already."""
PATIENCE: Final = 120.0
"""Seconds for one command: several download packages and build ours."""

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the pages are typed into bash"),
    pytest.mark.slow,
    # Two minutes, most of them pip's. Every day the same pages are typed where all is installed (test_snippets), and
    # the distributions are built and installed elsewhere (test_outsider).
    pytest.mark.campaign,
    pytest.mark.timeout(600),
]


class Shell:
    """One bash for all that is typed: directory, variables and jobs stay."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._log = directory / "typed.log"
        self._count = 0
        with self._log.open("w") as log:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=directory,
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def output(self) -> str:
        """All that has been shown so far."""
        return self._log.read_text()

    def type(self, command: str) -> tuple[int, str]:
        """Type one line; return the exit status and what was shown until it was done."""
        assert self._bash.stdin
        self._count += 1
        before, mark = len(self.output()), f"typed line {self._count} ended with "
        # A job in the background may be in the middle of a line, and may go on behind it.
        self._bash.stdin.write(f"{command}\nprintf '\\n{mark}%s.\\n' $?\n")
        self._bash.stdin.flush()
        until = time.monotonic() + PATIENCE
        while not (done := re.search(rf"{mark}(\d+)\.\n", self.output()[before:])):
            assert self._bash.poll() is None, f"the shell ended: {self.output()[before:]}"
            assert time.monotonic() < until, f"$ {command} did not end within {PATIENCE:g} s: {self.output()[before:]}"
            time.sleep(0.05)
        return int(done[1]), self.output()[before:][: done.start()]

    def close(self) -> None:
        """End it, and what runs in it."""
        assert self._bash.stdin
        self._bash.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()


class Newcomer(Reader):
    """Types everything, what installs included, into one shell; files are saved where the shell is."""

    def __init__(self, shell: Shell, directory: Path, redis: Callable[[], str]) -> None:
        super().__init__(directory, {}, redis)
        self._shell = shell
        self._running: tuple[str, list[str], int] | None = None

    def follow(self, block: Block) -> None:
        if block.mark == INSTALLED:
            block = replace(block, mark="")
        if block.language == "sh" and not block.mark:
            text = "".join(f"$ {line}\n" for line in block.text.splitlines())
            block = replace(block, language="console", text=text)
        super().follow(block)

    def _type(self, block: Block) -> None:
        for line, command, expected in commands(block):
            if command.startswith("kill %"):
                self._end(command, line)
                continue
            began = len(self._shell.output())
            status, shown = self._shell.type(command)
            if command.endswith("&"):
                self._running = (command, expected, began)
                continue
            fails = any(one.startswith(("Traceback", "error:")) for one in expected)
            assert status == 0 or fails, f"line {line}: $ {command}\nexit code {status}\n{shown}"
            check(line, command, shown, expected)
        self._directory = Path(self._shell.type("pwd")[1].strip())

    def _end(self, command: str, line: int) -> None:
        assert self._running, f"line {line}: nothing runs"
        started, expected, began = self._running
        self._running = None
        assert self._shell.type(command)[0] == 0
        status, _ = self._shell.type("wait %1")
        shown = self._shell.output()[began:]
        assert status == 0, f"line {line}: $ {started} ended with {status}\n{shown}"
        assert not (missing := unmatched(shown, expected)), (
            f"line {line}: $ {started} did not print {missing!r}\n{shown}"
        )

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        assert kind is not None or self._running is None, f"{self._running} still runs at the end of the page"


def environ(home: Path) -> dict[str, str]:
    """What a login gives, and how this machine reaches its package index."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_", "HTTP"))}
    path = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    # How wide the reader's terminal is, and no more.
    return {**kept, "HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    clone, home = tmp_path / "tranship", tmp_path / "home"
    home.mkdir()
    clone.mkdir()
    for name in CLONE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, clone / name)
    shell = Shell(clone, environ(home))
    yield shell
    shell.close()


def test_the_pages_work_as_they_are_typed(shell: Shell, tmp_path: Path, redis_of_the_page: Callable[[], str]) -> None:
    for page in ("README.md", "docs/tutorial/index.md"):
        with Newcomer(shell, tmp_path / "tranship", redis_of_the_page) as reader:
            for block in blocks((ROOT / page).read_text("utf-8")):
                reader.follow(block)
