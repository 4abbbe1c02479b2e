"""The two ways to come by a server that is not installed: Docker and the system's packages."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["apt_install", "apt_refusal", "docker_answers"]

_PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
_INSTALL_TIMEOUT = 300.0


def docker_answers(environ: Mapping[str, str]) -> bool:
    """Say whether a Docker daemon answers at ``DOCKER_HOST`` (a socket's path or plain TCP)."""
    address = environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with contextlib.suppress(OSError, ValueError), _connect(address) as link:
        link.sendall(_PING)
        return link.recv(64).startswith(b"HTTP/1.1 200")
    return False


def _connect(address: str) -> socket.socket:
    scheme, _, rest = address.partition("://")
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=2.0)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(2.0)
    try:
        link.connect(rest)
    except OSError:
        link.close()
        raise
    return link


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


def apt_install(packages: Sequence[str]) -> str:
    """Install Debian packages; return why it failed, or nothing."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    problem = _run(command)
    if problem and not (problem := _run(["apt-get", "update"])):
        # A machine whose package lists are missing or stale fails first.
        problem = _run(command)
    return problem


def _run(command: Sequence[str]) -> str:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(command)}` failed: {error.stderr.strip()[-300:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{' '.join(command)}` failed: {error}"
    return ""
