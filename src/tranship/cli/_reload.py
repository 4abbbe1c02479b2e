"""Running a command anew whenever a file changes: the command is a child process, ended as gently as by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from tranship._signals import heard

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation

__all__ = ["changed", "keep_current", "snapshot"]

EVERY: Final = 0.5
"""Seconds between two looks at the files."""
MOST: Final = 20_000
"""Files that are looked at."""
PATIENCE: Final = 40.0
"""Seconds that the child gets to end, beyond what its tasks get."""

Snapshot = Mapping[Path, tuple[int, int]]


def keep_current(call: Invocation, directories: Sequence[Path], *, patience: float | None) -> None:
    """Run this process's own command line without its options for reloading, and anew when a Python file changes.

    Returns when a signal has ended it. A command that ends by itself, as one with a mistake in its modules, is run
    again after the next change.

    Args:
        call: this run.
        directories: where files are looked for, with all below them.
        patience: seconds that running tasks get; None: what the settings say.

    Raises:
        BadParameter: one of them is not there.
    """
    for one in directories:
        if not one.is_dir():
            raise typer.BadParameter(f"{str(one)!r} is no directory", param_hint="--reload-dir")
    patience = call.settings(shutdown_timeout=patience).shutdown_timeout + PATIENCE
    Reloader(call, directories, patience).run()


class Reloader:
    """One child at a time, and what it is to be told."""

    def __init__(self, call: Invocation, directories: Sequence[Path], patience: float) -> None:
        self._call = call
        self._directories = directories
        self._patience = patience
        self._command = [sys.executable, "-m", "tranship", *_without_reload(sys.argv[1:])]
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[signal.Signals] = []
        self._signalled = threading.Event()

    def run(self) -> None:
        """Run until a signal, which the child is told, too; a second one as well."""
        with heard(self._heard):
            seen = snapshot(self._directories)
            where = ", ".join(map(str, self._directories))
            self._call.output.note(f"reloading when one of {len(seen)} Python files below {where} changes")
            while not self._signals:
                self._start()
                seen = self._until_changed(seen)
                self._end()

    def _heard(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._signalled.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(number)

    def _start(self) -> None:
        # In a group of its own: a Ctrl-C of the terminal comes to us alone, and once to the child.
        self._child = subprocess.Popen(self._command, process_group=0)  # noqa: S603 - our own command line
        if self._signals:
            self._child.send_signal(self._signals[-1])

    def _until_changed(self, before: Snapshot) -> Snapshot:
        told = False
        while not self._signalled.wait(EVERY):
            now = snapshot(self._directories)
            if files := changed(before, now):
                self._call.output.note(f"{_some(files)} changed; the worker begins anew", style="yellow")
                return now
            if not told and self._child is not None and (code := self._child.poll()) is not None:
                told = True
                self._call.output.note(f"the worker has ended (exit code {code}); waiting for a change", style="yellow")
        return before

    def _end(self) -> None:
        child = self._child
        assert child is not None
        if child.poll() is None and not self._signals:
            child.terminate()
        try:
            child.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._call.output.note("the worker does not end and is killed", style="red")
            child.kill()
            child.wait()


def snapshot(directories: Sequence[Path]) -> Snapshot:
    """Return the Python files below ``directories``, with what changes when they do."""
    found: dict[Path, tuple[int, int]] = {}
    for path in (path for directory in directories for path in _files(directory)):
        try:
            status = path.stat()
        except OSError:
            continue
        found[path] = status.st_mtime_ns, status.st_size
        if len(found) >= MOST:
            break
    return found


def changed(before: Snapshot, now: Snapshot) -> list[Path]:
    """Return the files that are new, gone or not what they were."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def _files(directory: Path) -> Iterator[Path]:
    for where, below, names in os.walk(directory):
        # Neither what is hidden nor what is installed: nobody works there.
        below[:] = sorted(one for one in below if one[0] != "." and one not in ("__pycache__", "node_modules"))
        if "pyvenv.cfg" in names:
            below.clear()
            continue
        yield from (Path(where, name) for name in names if name.endswith(".py"))


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(os.path.relpath(path) for path in files[:3])
    return names if len(files) <= 3 else f"{names} and {len(files) - 3} more files"


def _without_reload(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(arguments)
    for one in rest:
        if one == "--reload-dir":
            next(rest, None)
        elif one != "--reload" and not one.startswith("--reload-dir="):
            kept.append(one)
    return kept
