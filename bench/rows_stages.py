"""The staged executor beside sdax and a bare TaskGroup; Celery's canvas for the order of magnitude."""

from __future__ import annotations

from harness import PRODUCER, Bench, Candidate, Metrics, Round, Row, Target, expect
from rows_redis_submit import NO_GOAL
from rows_submit import over
from server import WORKER, redis_server

OURS = "tranship.stages"
SDAX = "sdax"
BARE = "bare TaskGroup"
CANVAS = "Celery: chain of groups"
FEW, MANY = 1, 100
"""Thousands of tasks in one level."""


def runs(function: str, shape: str, body: str, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        with bench.place() as where:
            found = bench.run(
                f"stage_shapes:{function}",
                where,
                on=PRODUCER,
                shape=shape,
                body=body,
                repeats=bench.amount(200, 20),
                **arguments,
            )
        expect("functions that ran", found.pop("ran"), found.pop("wanted"))
        return found

    return measure


def row(shape: str, body: str, title: str) -> Row:
    return Row(
        f"{shape}-{body}",
        title,
        [
            Candidate(OURS, runs("processed", shape, body, module="tranship.stages")),
            Candidate(SDAX, runs("processed", shape, body, module="sdax")),
            Candidate(BARE, runs("bare", shape, body)),
        ],
        [
            Target(f"{title}: {OURS} / {SDAX}", over(OURS, SDAX), 1, NO_GOAL),
            Target(f"{title}: {OURS} / {BARE}", over(OURS, BARE), 0.85, 0.95),
        ],
        [
            "Phase functions per second, each in an asyncio task of its own; the processor is built before.",
            "Of 200 runs of milliseconds each the 50th fastest.",
        ],
    )


LEVELS = row("levels", "nothing", "100 levels x 10, `pre_execute`")
WIDE = row("wide", "nothing", "1 level x 1,000, `execute`")
LEVELS_TURN = row("levels", "turn", "100 levels x 10, `pre_execute`, each awaits `sleep(0)`")
WIDE_TURN = row("wide", "turn", "1 level x 1,000, `execute`, each awaits `sleep(0)`")


def growing(module: str):
    def measure(bench: Bench) -> Metrics:
        with bench.place() as where:
            return bench.run("stage_shapes:growth", where, on=PRODUCER, module=module, times=[FEW, MANY])

    return measure


def slower(figures: Round) -> float:
    return figures[OURS][f"x{MANY}"] / figures[OURS][f"x{FEW}"]


def slower_than_sdax(figures: Round) -> float:
    return slower(figures) / (figures[SDAX][f"x{MANY}"] / figures[SDAX][f"x{FEW}"])


GROWTH = Row(
    "growth",
    "one level of 1,000 and of 100,000 tasks",
    [
        Candidate(name, growing(module), ((f"x{FEW}", "us per task of 1,000"), (f"x{MANY}", "us per task of 100,000")))
        for name, module in ((OURS, "tranship.stages"), (SDAX, "sdax"))
    ],
    [
        Target("cost of a task among 100,000 / among 1,000", slower, 3, 2, lower=True),
        Target("the same, in that of sdax", slower_than_sdax, 1.25, 1, lower=True),
    ],
    ["Linear is 1; what a hundred thousand live asyncio tasks cost the caches and the garbage collector comes on top."],
)


def canvas(bench: Bench) -> Metrics:
    levels, width = bench.amount(20, 5), 10
    with redis_server(bench) as server, bench.child("peer_celery_canvas:serve", server.where, on=WORKER) as serving:
        serving.wait_ready()
        found = bench.run("peer_celery_canvas:run", server.where, on=PRODUCER, levels=levels, width=width)
        serving.finish()
    expect("results of the last level", found.pop("last"), width)
    return found


BESIDE_CELERY = Row(
    "celery",
    "levels of 10 tasks, with a worker elsewhere and without",
    [Candidate(OURS, runs("processed", "levels", "nothing", module="tranship.stages")), Candidate(CANVAS, canvas)],
    [Target(f"{OURS} / {CANVAS}", over(OURS, CANVAS), 1, NO_GOAL)],
    [
        "Celery distributes, stages does not: the figure says what a level costs when it needs no other process.",
        "Celery: `chain` of 20 `group`s of 10 no-ops, Redis as broker and result store, worker `-P solo`.",
    ],
)
