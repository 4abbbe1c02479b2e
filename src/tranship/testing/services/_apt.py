"""The packages of Debian and Ubuntu: installed by one process at a time, all of them in one call."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

__all__ = ["apt_install", "apt_refusal"]

_MEMORY: Final = Path("/run/tranship-tests.apt")
"""Locked by the process whose turn it is; says why the last installation failed. Only root can write there."""
_BELIEVED: Final = 600.0
"""Seconds for which a failure is believed: what cannot be had is not asked for again by every test."""
_LOCK_TIMEOUT: Final = "300"
"""Seconds for which apt waits for others that install packages."""
_INSTALL_TIMEOUT: Final = 900.0


def apt_refusal(environ: Mapping[str, str]) -> str:
    """Say why system packages may not be installed here; empty: they may."""
    if environ.get("TRANSHIP_TEST_INSTALL", "1") == "0":
        return "TRANSHIP_TEST_INSTALL=0"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "not root"
    if not _is_debian() or shutil.which("apt-get") is None:
        return "not Debian or Ubuntu"
    return ""


def _is_debian() -> bool:
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        return "debian" in f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    return False


def apt_install(packages: Sequence[str], *, again: bool = False) -> str:
    """Install Debian packages, after one ``apt-get update``; return why it failed, or nothing.

    Processes that want it at the same time wait for each other: the first one installs, the others find it done, or
    are told the same failure for ten minutes.

    Args:
        packages: all that is wanted.
        again: try even if it has just failed.
    """
    with _turn() as memory:
        if _installed(packages):
            return ""
        if not again and (failure := _remembered(memory, packages)):
            return failure
        failure = _install(packages)
        _remember(memory, packages, failure)
    return failure


@contextlib.contextmanager
def _turn() -> Iterator[IO[str]]:
    """Wait until no other process installs; the kernel ends the turn of one that died."""
    import fcntl

    descriptor = os.open(_MEMORY, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as memory:
        fcntl.flock(memory, fcntl.LOCK_EX)
        yield memory


def _remembered(memory: IO[str], packages: Sequence[str]) -> str:
    memory.seek(0)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        last = json.loads(memory.read())
        if set(packages) <= set(last["packages"]) and 0 <= time.time() - last["at"] < _BELIEVED:
            return str(last["failure"])
    return ""


def _remember(memory: IO[str], packages: Sequence[str], failure: str) -> None:
    memory.seek(0)
    memory.truncate()
    if failure:
        json.dump({"packages": list(packages), "at": time.time(), "failure": failure}, memory)
        memory.flush()


def _installed(packages: Sequence[str]) -> bool:
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\\n", *packages]
    status, said = _run(query)
    return status == "" and said.split() == ["installed"] * len(packages)


def _install(packages: Sequence[str]) -> str:
    waiting = ("-o", f"DPkg::Lock::Timeout={_LOCK_TIMEOUT}", "-o", "Acquire::Retries=3")
    stale, _ = _run(["apt-get", *waiting, "update"])
    failure, _ = _run(["apt-get", *waiting, "install", "--yes", "--no-install-recommends", *packages])
    # A repository that is broken and has nothing for us does no harm.
    return "; before it ".join(filter(None, [failure, stale])) if failure else ""


def _run(command: Sequence[str]) -> tuple[str, str]:
    """Run it; return what went wrong, or nothing, and what it said."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A file, and no pipe: a server that is started by its package would keep the pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            done = subprocess.run(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"`{' '.join(command)}` failed: {error}", ""
        output.seek(0)
        said = output.read()
    problem = f"`{' '.join(command)}` failed: {said.strip()[-300:]}" if done.returncode else ""
    return problem, said
