"""tranship and its peers, side by side: ``python bench [--broker sqlite|redis|rabbitmq|nats|sandai] [--rounds N] [--only ROW] [--quick]``."""

from __future__ import annotations

import argparse
import importlib
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
from catalogues import CATALOGUES
from harness import HERE, Bench, Outcome, Row, measure


def options(catalogue) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__)
    parser.add_argument("--broker", choices=CATALOGUES, default="sqlite", help="whose rows to measure (default sqlite)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds kept; one more is dropped (default 7, quick 2)")
    rows = ", ".join(catalogue.ROWS)
    parser.add_argument("--only", action="append", choices=catalogue.ROWS, metavar="ROW", help=f"one of {rows}")
    parser.add_argument("--quick", action="store_true", help="small amounts, few rounds: for a first look only")
    parser.add_argument(
        "--argument",
        type=int,
        default=catalogue.ARGUMENT,
        help=f"length of each task's argument (default {catalogue.ARGUMENT}: {catalogue.MESSAGE})",
    )
    parser.add_argument("--unlocked", action="store_true", help="measure with other versions than the locked ones")
    parser.add_argument("--name", default="", help="of the files in bench/results (default the broker, quick: quick)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the tables go")
    return parser


def chosen_catalogue():
    """The rows to choose from, by ``--broker`` alone."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--broker", choices=CATALOGUES, default="sqlite")
    return importlib.import_module(CATALOGUES[first.parse_known_args()[0].broker])


def main() -> int:
    catalogue = chosen_catalogue()
    chosen = options(catalogue).parse_args()
    if (problems := machine.unlocked()) and not chosen.unlocked:
        say("not measured with what the figures are compared with:\n  " + "\n  ".join(problems))
        say(f"pip install -c {machine.CONSTRAINTS} ..., nox -s bench, or --unlocked to measure all the same")
        return 2
    disk = machine.disk()
    about = {
        "command": shlex.join(["python", "bench", *sys.argv[1:]]),
        "when": time.strftime("%Y-%m-%d %H:%M %Z"),
        **machine.about(),
        **({"not as bench/constraints.txt": "; ".join(problems)} if problems else {}),
    }
    root = Path(tempfile.mkdtemp(prefix="tranship-bench-", dir=disk))
    bench = Bench(root, chosen.quick, chosen.argument)
    rows = [catalogue.ROWS[key] for key in chosen.only or catalogue.ROWS]
    others = machine.Others()
    try:
        about.update(catalogue.about(bench, disk))
        outcomes = [measure_row(row, bench, chosen, about) for row in rows]
        about["used by others during the run"] = str(others)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    say("")
    name = chosen.name or ("quick" if chosen.quick else chosen.broker)
    say(report.write(chosen.results, name, about, outcomes))
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def measure_row(row: Row, bench: Bench, chosen: argparse.Namespace, about: dict[str, str]) -> Outcome:
    rounds = chosen.rounds or (2 if bench.quick else 7)
    about.setdefault("rounds", f"{rounds}, after one that is dropped; candidates interleaved, processes pinned")
    if row.key == "start":  # starting an interpreter is short: more rounds of it
        rounds = 5 if bench.quick else max(15, rounds)
        about["rounds"] += f"; of the {row.key} row {rounds}"
    say(f"{row.key}: {row.title}")
    return measure(row, bench, rounds, say)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
