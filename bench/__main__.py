"""tranship and its peers, side by side: ``python bench [--rounds N] [--only ROW] [--quick]``."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
from harness import HERE, Bench, Row, measure
from rows_start import STARTING
from rows_submit import CONCURRENT_SUBMITS, SERIAL_SUBMITS, SUBMIT_MANY
from rows_work import DRAINING, ROUND_TRIPS, WAKING

ROWS: dict[str, Row] = {
    row.key: row for row in (SUBMIT_MANY, CONCURRENT_SUBMITS, SERIAL_SUBMITS, DRAINING, ROUND_TRIPS, WAKING, STARTING)
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="rounds kept; one more is dropped (default 7, quick 2)")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="small amounts, few rounds: for a first look only")
    parser.add_argument(
        "--argument",
        type=int,
        default=768,
        help="length of each task's argument (default 768: a message of 1,233 bytes)",
    )
    parser.add_argument("--name", default="", help="of the files in bench/results (default sqlite, quick: quick)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the tables go")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    rounds = chosen.rounds or (2 if chosen.quick else 7)
    disk = machine.disk()
    about = {
        "command": shlex.join(["python", "bench", *sys.argv[1:]]),
        "when": time.strftime("%Y-%m-%d %H:%M %Z"),
        **machine.about(disk),
        "rounds": f"{rounds}, after one that is dropped; candidates interleaved, processes pinned; of the {STARTING.key} "
        f"row {start_rounds(rounds, quick=chosen.quick)}",
    }
    root = Path(tempfile.mkdtemp(prefix="tranship-bench-", dir=disk))
    bench = Bench(root, chosen.quick, chosen.argument)
    outcomes = []
    try:
        about["one fdatasync, p50 ms"] = f"{bench.run('bound:sync', root)['p50']:.3f}"
        for key in chosen.only or ROWS:
            say(f"{key}: {ROWS[key].title}")
            count = start_rounds(rounds, quick=chosen.quick) if key == STARTING.key else rounds
            outcomes.append(measure(ROWS[key], bench, count, say))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    say("")
    say(report.write(chosen.results, chosen.name or ("quick" if chosen.quick else "sqlite"), about, outcomes))
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def start_rounds(rounds: int, *, quick: bool) -> int:
    """Starting an interpreter is short: more rounds of it."""
    return 5 if quick else max(15, rounds)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
