"""On what a run was measured: machine, versions, disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
import tempfile
import time
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
    "tranship-redis",
    "celery",
    "taskiq",
    "taskiq-redis",
    "faststream",
    "saq",
    "sdax",
)
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
PEERS = frozenset(
    {"aio-pika", "celery", "dramatiq", "faststream", "hiredis", "huey", "kombu", "litequeue", "nats-py", "redis", "saq"}
    | {"sdax", "sqlalchemy", "taskiq", "taskiq-aio-pika", "taskiq-nats", "taskiq-redis"}
)
"""Who is measured beside tranship, as the constraints name them."""
IN_MEMORY = {"tmpfs", "ramfs", "overlay"}


def about() -> dict[str, str]:
    """What the results need to be read."""
    load = "/".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{os.cpu_count()} CPUs, {processor()}, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": load,
        "busy beside it": busy(),
        "distributions": ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS),
    }


def unlocked(constraints: Path = CONSTRAINTS) -> list[str]:
    """Say what is not as the constraints have it: peers that are missing, and whatever has another version."""
    locked = dict(
        line.split("==") for line in constraints.read_text("utf-8").splitlines() if line and not line.startswith("#")
    )
    problems = [f"{name} is a peer and has no version in {constraints.name}" for name in sorted(PEERS - locked.keys())]
    for name, wanted in locked.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems += [f"{name} is not installed; expected {wanted}"] if name in PEERS else []
        else:
            problems += [f"{name} is {found}; expected {wanted}"] if found != wanted else []
    return problems


def sqlite(where: Path) -> dict[str, str]:
    """What the rows on SQLite depend on."""
    return {"sqlite": sqlite3.sqlite_version, "files": f"on {filesystem(where)}"}


def busy(seconds: float = 1.0, share: float = 0.03) -> str:
    """Processes that are not ours and use the processors: strays of an earlier run, somebody else's work."""
    before = processor_times()
    time.sleep(seconds)
    found = {pid: used - before.get(pid, 0.0) for pid, used in processor_times().items()}
    # Who has ended, or begun, meanwhile says it with nothing or little.
    names = sorted(f"{command(pid)} ({used / seconds:.0%})" for pid, used in found.items() if used > share * seconds)
    return ", ".join(names) or "nothing"


class Others:
    """How much of the processors somebody else has had since this was made: whole processors, on average."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._others, self._stolen = self._look()

    def __str__(self) -> str:
        passed = time.monotonic() - self._begun
        others, stolen = self._look()
        if stolen < 0:
            return "unknown"
        return f"{(others - self._others) / passed:.2f} CPUs, {(stolen - self._stolen) / passed:.2f} stolen by the host"

    @staticmethod
    def _look() -> tuple[float, float]:
        """Seconds by now: of all processes but this one and its ended children, and stolen (-1: unknown)."""
        try:
            fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return 0.0, -1.0
        tick, mine = os.sysconf("SC_CLK_TCK"), os.times()
        return sum(fields[:3]) / tick - sum(mine[:4]), fields[7] / tick


def processor_times() -> dict[int, float]:
    """Seconds of CPU by process, of all but this one; empty where there is no /proc."""
    tick, times = os.sysconf("SC_CLK_TCK"), {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        times[int(file.parent.name)] = (int(fields[11]) + int(fields[12])) / tick
    times.pop(os.getpid(), None)
    return times


def command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return " ".join(Path(word.decode(errors="replace")).name for word in words[:3]).strip()[:60] or "kernel thread"
    except OSError:
        return "ended"


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
