"""Row 7: import and a first client, as a whole process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness import HERE, Bench, BenchError, Candidate, Metrics, Round, Row, Target, environment

NOTHING = "python -c pass"
CLIENT = "tranship, client made"
OPENED = "tranship, client opened"
NEW_FILE = "tranship, client opened, new file"
DRAMATIQ = "dramatiq with RedisBroker"
REDIS = "redis-py alone"

MADE = "import tranship; c = tranship.Client('sqlite:///x.db')"
OPEN = f"{MADE}; c.open()"
CODE = {
    NOTHING: "pass",
    CLIENT: MADE,
    OPENED: OPEN,
    NEW_FILE: OPEN,
    DRAMATIQ: "import dramatiq; from dramatiq.brokers.redis import RedisBroker; RedisBroker()",
    REDIS: "import redis; redis.Redis()",
}
SHOW = (("ms", "ms"), ("mib", "MiB"))


def start(name: str):
    def measure(bench: Bench) -> Metrics:
        with bench.place() as where:
            if name == OPENED:
                launch(bench, f"{OPEN}; c.close()", where)
            return launch(bench, CODE[name], where)

    return measure


def launch(bench: Bench, code: str, where: Path) -> Metrics:
    command = [bench.side.python, "-S", "-E", str(HERE / "launch.py"), code]
    done = subprocess.run(
        command, cwd=where, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise BenchError(done.stderr[-2000:])
    found = json.loads(done.stdout)
    if found.pop("status"):
        raise BenchError(f"{code!r} failed\n{done.stderr[-2000:]}")
    return found


def share(name: str, peer: str, metric: str):
    def ratio(figures: Round) -> float:
        return figures[name][metric] / figures[peer][metric]

    return ratio


def targets(name: str):
    """Below dramatiq is the floor, below redis-py the goal: two lines per figure."""
    for metric, unit in SHOW:
        yield Target(f"{name}: {unit} / {REDIS}", share(name, REDIS, metric), float("inf"), 1.0, lower=True)
        yield Target(f"{name}: {unit} / {DRAMATIQ}", share(name, DRAMATIQ, metric), 1.0, 1.0, lower=True)


STARTING = Row(
    "start",
    "`import tranship` and a first client",
    [Candidate(name, start(name), SHOW) for name in CODE],
    [target for name in (CLIENT, OPENED, NEW_FILE) for target in targets(name)],
    [
        (
            "Wall time and peak resident memory of whole interpreters. The peers do not connect; tranship's second and "
            "third open the database, an existing one and one that is created."
        ),
        "Floor: under dramatiq; goal: under redis-py alone.",
    ],
)
