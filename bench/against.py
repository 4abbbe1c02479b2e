"""This checkout beside another one, round by round: ``python bench/against.py OTHER_PYTHON [--broker redis] [--rounds 15]``.

OTHER_PYTHON is the interpreter of a virtual environment in which the other checkout is installed from its sources (``pip
install -e``). Peers are left out. A figure is the ratio within a round, this checkout's over the other's, turned so that
more is better; its interval holds the median with 95 % (bootstrap over the rounds). A row fails where the upper end lies
below the bound, and is then measured once more; both are printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import machine
from catalogues import CATALOGUES
from harness import Bench, BenchError, Candidate, Row, Side

BOUND = 0.97
RESAMPLES = 4000
PEERS = ("celery", "taskiq", "huey", "litequeue", "kombu", "dramatiq", "saq", "faststream", "sdax", "original")
BARE = ("bare", "raw ", "redis-py", "python -c")
"""In the names of candidates that are not ours."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one candidate: its ratios, a round each."""

    row: str
    candidate: str
    unit: str
    ratios: Sequence[float]
    bound: float
    judged: bool

    @property
    def interval(self) -> tuple[float, float]:
        """Where the median lies, with 95 %."""
        chance = random.Random(1)
        medians = sorted(statistics.median(chance.choices(self.ratios, k=len(self.ratios))) for _ in range(RESAMPLES))
        return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]

    @property
    def slower(self) -> bool:
        return self.judged and self.interval[1] < self.bound

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "" if not self.judged else "**slower**" if self.slower else "ok"
        figures = f"{statistics.median(self.ratios):.3f} | {low:.3f}-{high:.3f}"
        return f"| {self.row} | {self.candidate} | {self.unit} | {figures} | {self.bound:g} | {verdict} |"


def is_ours(candidate: Candidate) -> bool:
    name = candidate.name.lower()
    return not any(word in name for word in (*PEERS, *BARE))


def compare(row: Row, bench: Bench, other: Side, rounds: int, bound: float) -> Iterator[Comparison]:
    """Measure both sides of each candidate in turn, the order reversed every other round; the first round is dropped."""
    for candidate in filter(is_ours, row.candidates):
        found: list[tuple[dict, dict]] = []
        for number in range(rounds + 1):
            sides = [bench, replace(bench, side=other)]
            order = sides[:: 1 if number % 2 == 0 else -1]
            measured = {one is bench: candidate.measure(one) for one in order}
            if number:
                found.append((measured[True], measured[False]))
        for place, (metric, unit) in enumerate(candidate.show):
            ratios = [
                (ours[metric] / theirs[metric]) if metric == "rate" else (theirs[metric] / ours[metric])
                for ours, theirs in found
                if ours.get(metric) and theirs.get(metric)
            ]
            if ratios:
                yield Comparison(row.key, candidate.name, unit, ratios, bound, judged=place == 0)


def measured(row: Row, bench: Bench, chosen: argparse.Namespace, other: Side) -> list[Comparison]:
    """The row's comparisons, each told as it comes; what was slower is measured a second time."""
    found: list[Comparison] = []
    for attempt in (row.key, f"{row.key}, again"):
        slow = {one.candidate for one in found if one.slower}
        if found and not slow:
            break
        part = replace(row, key=attempt, candidates=[one for one in row.candidates if not found or one.name in slow])
        for comparison in compare(part, bench, other, chosen.rounds, chosen.bound):
            print(comparison, flush=True)
            found.append(comparison)
    return found


def failures(found: Sequence[Comparison]) -> list[Comparison]:
    """Slower both times."""
    return [one for one in found if one.slower and one.row.endswith("again")]


def commit(side: Side) -> str:
    found = subprocess.run(
        ["git", "log", "-1", "--format=%h"], cwd=side.here, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python bench/against.py", description=__doc__)
    parser.add_argument("other", help="the other checkout's interpreter")
    parser.add_argument("--bench", type=Path, help="its bench directory (default: beside the virtual environment)")
    parser.add_argument("--broker", choices=CATALOGUES, default="sqlite")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", action="append", metavar="ROW")
    parser.add_argument("--candidate", default="", help="only those whose name contains this")
    parser.add_argument("--bound", type=float, default=BOUND)
    parser.add_argument("--quick", action="store_true", help="small amounts")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    catalogue = importlib.import_module(CATALOGUES[chosen.broker])
    other = Side(chosen.other, chosen.bench or Path(chosen.other).absolute().parents[2] / "bench")
    root = Path(tempfile.mkdtemp(prefix="tranship-bench-", dir=machine.disk()))
    bench = Bench(root, chosen.quick, catalogue.ARGUMENT)
    head = [
        f"# {commit(bench.side)} beside {commit(other)}, {chosen.broker}",
        "",
        f"`{shlex.join(['python', 'bench/against.py', 'OTHER_PYTHON', *sys.argv[2:]])}`, {time.strftime('%Y-%m-%d %H:%M %Z')}",
        "",
        "| row | candidate | metric | ratio, median | 95 % | bound | |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head), flush=True)
    others, found, broken = machine.Others(), [], []
    try:
        for key in chosen.only or catalogue.ROWS:
            row = catalogue.ROWS[key]
            row = replace(row, candidates=[one for one in row.candidates if chosen.candidate in one.name])
            try:
                found += measured(row, bench, chosen, other)
            except BenchError as error:
                broken.append(f"{key}: {error}")
                print(f"FAILED {broken[-1]}", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    tail = ["", f"{chosen.rounds} rounds; {machine.processor()}; used by others during the run: {others}"]
    tail += [f"Not measured: {one}" for one in broken]
    slow = failures(found)
    tail += ["", "Slower both times: " + (", ".join(f"{one.row} {one.candidate}" for one in slow) or "none") + "."]
    print("\n".join(tail))
    name = chosen.name or f"against-{chosen.broker}"
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / f"{name}.md").write_text("\n".join([*head, *map(str, found), *tail]) + "\n")
    document = [{"row": one.row, "candidate": one.candidate, "unit": one.unit, "ratios": one.ratios} for one in found]
    (chosen.results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    return 1 if slow or broken else 0


if __name__ == "__main__":
    sys.exit(main())
