"""Measured processes, rounds and medians."""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

PRODUCER = 0
CONSUMER = 1
"""The CPUs of the two sides; on a machine with one CPU both are 0."""

Metrics = dict[str, float]
Round = Mapping[str, Metrics]


class BenchError(Exception):
    """A measurement that cannot be trusted: a process failed, or something did not land."""


def cpu(wanted: int) -> int | None:
    """The CPU to pin to, or None where that cannot be done."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[min(wanted, len(allowed) - 1)]


@dataclass(frozen=True)
class Side:
    """Whose code is measured: an interpreter that has it installed, and the bench directory that goes with it."""

    python: str = sys.executable
    here: Path = HERE


class Child:
    """One measured process (see ``child.py``)."""

    def __init__(self, target: str, where: Path, *, on: int, side: Side, **arguments: object) -> None:
        self.target = target
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [side.python, str(side.here / "child.py"), target, json.dumps({"cpu": cpu(on), **arguments})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=where,
            env=environment(),
            text=True,
        )
        self._said: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout: float = 30.0) -> None:
        self._expect("ready", timeout)

    def result(self, timeout: float = 300.0):
        return self._expect("result", timeout)

    def finish(self, timeout: float = 60.0):
        """Tell a serving process to end, and return its result."""
        self._process.stdin.close()
        return self.result(timeout)

    def close(self) -> None:
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.startswith("@"):
                word, _, value = line[1:].partition(" ")
                self._said.put((word, json.loads(value)))
        self._said.put(("end", None))

    def _expect(self, word: str, timeout: float):
        try:
            said, value = self._said.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            raise BenchError(f"{self.target} said nothing for {timeout:g} s\n{self._trouble()}") from None
        if said != word:
            raise BenchError(f"{self.target} ended instead of {word}\n{self._trouble()}")
        return value

    def _trouble(self) -> str:
        self._process.wait(20)
        self._errors.seek(0)
        return self._errors.read()[-4000:]


def environment() -> dict[str, str]:
    """The environment of measured processes: no settings of ours from outside, one hash seed for all, and compiled modules
    as everywhere else: without them a process compiles all that it imports, which takes longer than to run it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRANSHIP_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    if "PYTHONPATH" in kept:  # they run elsewhere
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in kept["PYTHONPATH"].split(os.pathsep))
    return {**kept, "PYTHONHASHSEED": "0"}


@dataclass(eq=False)
class Bench:
    """What every measurement needs: a place for files, and how much to do."""

    root: Path
    quick: bool
    argument: int
    """Length of the text that each task carries."""
    side: Side = field(default_factory=Side)

    def amount(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A directory of its own for one measurement."""
        where = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield where
        finally:
            shutil.rmtree(where, ignore_errors=True)

    def run(self, target: str, where: Path, *, on: int = PRODUCER, timeout: float = 300.0, **arguments: object):
        """Run one measured process to its end."""
        with self.child(target, where, on=on, **arguments) as child:
            return child.result(timeout)

    @contextmanager
    def child(self, target: str, where: Path, *, on: int, **arguments: object) -> Iterator[Child]:
        child = Child(target, where, on=on, side=self.side, **arguments)
        try:
            yield child
        finally:
            child.close()


def expect(what: str, found: object, wanted: object) -> None:
    """Every message landed, every result is there - or no figure."""
    if found != wanted:
        raise BenchError(f"{what}: found {found}, expected {wanted}")


@dataclass(frozen=True)
class Candidate:
    """Something measured once per round."""

    name: str
    measure: Callable[[Bench], Metrics]
    show: Sequence[tuple[str, str]] = (("rate", "/s"),)
    """Metrics to print, with their units."""


@dataclass(frozen=True)
class Target:
    """A figure per round, to be above (or below) a floor and a goal; an infinite one is none."""

    text: str
    value: Callable[[Round], float]
    floor: float
    goal: float
    lower: bool = False
    """Whether less is better."""
    unit: str = "x"

    def verdict(self, figure: float) -> str:
        def meets(bound: float) -> bool:
            return figure <= bound if self.lower else figure >= bound

        if not math.isinf(self.goal) and meets(self.goal):
            return "goal"
        if math.isinf(self.floor):
            return "short of the goal"
        return "floor" if meets(self.floor) else "**below floor**"


@dataclass(frozen=True)
class Row:
    """Candidates that are measured together, round by round."""

    key: str
    title: str
    candidates: Sequence[Candidate]
    targets: Sequence[Target]
    notes: Sequence[str] = ()


@dataclass
class Outcome:
    """What a row has given."""

    row: Row
    rounds: list[Round] = field(default_factory=list)
    problem: str = ""

    def of(self, candidate: str, metric: str) -> list[float]:
        return [one[candidate][metric] for one in self.rounds if metric in one.get(candidate, {})]

    def figures(self, target: Target) -> list[float]:
        found = []
        for one in self.rounds:
            try:
                found.append(target.value(one))
            except (KeyError, ValueError):
                continue
        return found


def measure(row: Row, bench: Bench, rounds: int, tell: Callable[[str], None]) -> Outcome:
    """Measure ``row``: candidates interleaved, their order turned around every other round, first round dropped."""
    outcome = Outcome(row)
    failed: dict[str, str] = {}
    for number in range(rounds + 1):
        order = list(row.candidates)[:: 1 if number % 2 == 0 else -1]
        found: dict[str, Metrics] = {}
        for candidate in order:
            if candidate.name in failed:
                continue
            begun = time.monotonic()
            try:
                found[candidate.name] = candidate.measure(bench)
            except BenchError as error:
                failed[candidate.name] = f"{candidate.name}: {error}"
                tell(f"  FAILED {failed[candidate.name]}")
                continue
            figures = ", ".join(
                f"{metric} {found[candidate.name][metric]:,.4g} {unit}" for metric, unit in candidate.show
            )
            tell(f"  {number}/{rounds} {candidate.name}: {figures} [{time.monotonic() - begun:.1f} s]")
        if number:
            outcome.rounds.append(found)
    outcome.problem = "\n".join(failed.values())
    return outcome


def spread(figures: Sequence[float]) -> tuple[float, float, float] | None:
    """Median, least, most."""
    return (statistics.median(figures), min(figures), max(figures)) if figures else None


def percentile(figures: Sequence[float], share: float) -> float:
    """The value that ``share`` of the figures do not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
