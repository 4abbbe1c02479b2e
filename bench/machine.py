"""On what a run was measured: machine, versions, disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

DISTRIBUTIONS = (
    "tranship",
    "orjson",
    "msgpack",
    "huey",
    "litequeue",
    "kombu",
    "SQLAlchemy",
    "dramatiq",
    "redis",
    "hiredis",
)
IN_MEMORY = {"tmpfs", "ramfs", "overlay"}


def about(where: Path) -> dict[str, str]:
    """What the results need to be read."""
    load = "/".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{os.cpu_count()} CPUs, {processor()}, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "files": f"on {filesystem(where)}",
        "load before": load,
        "distributions": ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS),
    }


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "from sources" if name == "tranship" else "not installed"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def filesystem(where: Path) -> str:
    """The type of the file system that ``where`` is on."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = where.resolve()
    found = [(point, kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(found, key=lambda mount: len(mount[0]))[1] if found else "unknown"


def disk() -> Path:
    """A directory for files on a real disk: the temporary one, unless that is memory."""
    for place in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):
        if place.is_dir() and os.access(place, os.W_OK) and filesystem(place) not in IN_MEMORY:
            return place
    print("no directory on a real disk was found: the durable figures mean little", file=sys.stderr)
    return Path(tempfile.gettempdir())
