"""The judge of the mixed fleet: what it takes for an explanation, and whom it blames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from interop.mixed import again, log, lost
from interop.mixed.fleet import Death
from interop.mixed.log import Run
from interop.mixed.plan import CHAIN, CHORD, LINKS, MEMBERS, Canvas, expected, kind_of

ONE, OTHER = "celery-1.1", "tranship-3.1"
CHAINED = Canvas(2, CHAIN, ("a", "b", "c"))
IDS = tuple(f"{number:08x}-0000-4000-8000-000000000000" for number in range(MEMBERS + 1))
CHORDED = Canvas(1, CHORD, (*(f"m{place}" for place in range(MEMBERS)), "body"))


def run(at: float, *, seat: str = ONE, pid: int = 1, takes: float | None = 0.1) -> Run:
    return Run(seat, pid, at, None if takes is None else at + takes)


def why(*runs: Run, deaths: tuple[Death, ...] = (), **others: list[Run]) -> dict[str, int]:
    """The reasons for the runs of ``b``."""
    reasons, unexplained = again.duplicates([CHAINED], {"b": list(runs), **others}, deaths, visibility=10)
    assert reasons[again.UNEXPLAINED] == len(unexplained)
    return dict(reasons)


def test_one_run_is_no_duplicate() -> None:
    assert why(run(1)) == {}


@pytest.mark.parametrize("pid", [None, 1], ids=["the worker", "its process"])
def test_a_death_explains_what_it_broke_off(pid: int | None) -> None:
    broken = run(1, takes=None)
    assert why(broken, run(5, seat=OTHER), deaths=(Death(ONE, pid, 1.2),)) == {again.KILLED: 1}


@pytest.mark.parametrize(
    "death", [Death(OTHER, None, 1.2), Death(ONE, 7, 1.2), Death(ONE, None, 0.5)], ids=["other", "child", "before"]
)
def test_a_death_of_somebody_else_explains_nothing(death: Death) -> None:
    assert why(run(1, takes=None), run(5, seat=OTHER), deaths=(death,)) == {again.UNEXPLAINED: 1}


@pytest.mark.parametrize(("at", "reason"), [(1.5, again.UNACKNOWLEDGED), (9.0, again.UNEXPLAINED)])
def test_a_death_explains_what_had_just_ended(at: float, reason: str) -> None:
    assert why(run(1), run(15, seat=OTHER), run(5), deaths=(Death(ONE, None, at),))[reason]


def test_what_is_sent_twice_runs_twice() -> None:
    assert why(run(1), run(2), a=[run(0), run(0.5)])[again.SENT_AGAIN] == 1
    twice = {"m4": [run(0, takes=None), run(1)], "body": [run(2), run(3)]}
    reasons, _ = again.duplicates([CHORDED], twice, [Death(ONE, None, 0.1)], visibility=10)
    assert reasons == {again.KILLED: 1, again.SENT_AGAIN: 1}


def test_the_visibility_timeout_is_celerys() -> None:
    assert why(run(1), run(12)) == {again.OUT_OF_TIME: 1}
    assert why(run(1, seat=OTHER), run(12)) == {again.UNEXPLAINED: 1}


def test_who_had_the_missing_task_last_is_to_blame(tmp_path: Path) -> None:
    canvas = lost.looked_into(replace(CHAINED, ids=IDS), {IDS[0]: ("SUCCESS", 20)})
    assert (canvas.missing, canvas.state) == (IDS[1], "")
    assert blamed(canvas, tmp_path) == "nobody"
    write(tmp_path, ONE, f"[2026-11-30 10:00:00,100: INFO/MainProcess] Task mixed.step[{IDS[0]}] received")
    assert blamed(canvas, tmp_path) == "nobody", "its sender has ended: it was sent"
    write(tmp_path, ONE, f"[2026-11-30 10:00:00,200: INFO/MainProcess] Task mixed.step[{IDS[1]}] received")
    write(tmp_path, OTHER, f"2026-11-30 10:00:00,300 INFO tranship.worker: task {IDS[1]} (mixed.step) succeeded")
    assert blamed(canvas, tmp_path) == "tranship"


def test_a_chord_asks_first_who_had_what_is_not_counted(tmp_path: Path) -> None:
    canvas = lost.looked_into(replace(CHORDED, ids=IDS), dict.fromkeys(IDS[:-1], ("SUCCESS", 1)))
    write(tmp_path, ONE, f"[2026-11-30 10:00:00,100: INFO/MainProcess] Task mixed.step[{IDS[0]}] received")
    write(tmp_path, OTHER, f"2026-11-30 10:00:00,300 INFO tranship.worker: task {IDS[1]} came again with its result")
    assert canvas.missing == IDS[-1]
    assert blamed(canvas, tmp_path, counted=IDS[1:-1]) == "celery"
    assert blamed(canvas, tmp_path, counted=IDS[:1]) == "tranship"
    assert blamed(canvas, tmp_path, counted=IDS[:-1]) == "tranship", "all are counted: whoever had any of them last"


def test_a_run_is_as_good_as_a_line(tmp_path: Path) -> None:
    canvas = lost.looked_into(replace(CHAINED, ids=IDS), {IDS[0]: ("SUCCESS", 20)})
    assert blamed(canvas, tmp_path, runs={IDS[1]: [run(1, seat=OTHER, takes=None)]}) == "tranship"


def blamed(
    canvas: Canvas, folder: Path, counted: Sequence[str] = (), runs: Mapping[str, Sequence[Run]] | None = None
) -> str:
    said = lost.mentions(sorted(folder.iterdir()), runs or {}, canvas.ids)
    found = lost.loss(canvas, counted, said, [Death(ONE, None, 5.0)])
    assert ("killed: celery-1.1 at 5.000" in found.story) == any(
        one.seat == ONE for each in said.values() for one in each
    )
    return found.who


def write(folder: Path, seat: str, line: str) -> None:
    with (folder / f"mixed-{seat}.log").open("a") as file:
        file.write(f"{line}\n")


def test_a_failed_member_is_the_end_of_a_canvas() -> None:
    failed = lost.looked_into(CHAINED, {"a": ("SUCCESS", 20), "b": ("FAILURE", "no")})
    assert (failed.state, failed.value, failed.missing, failed.well) == ("FAILURE", "no", "", False)


def test_what_ended_after_the_last_look_has_ended() -> None:
    late = lost.looked_into(
        CHAINED, dict(zip(CHAINED.ids, [("SUCCESS", 20), ("SUCCESS", 201), ("SUCCESS", 2012)], strict=True))
    )
    assert late.well


def test_a_canvas_is_well_with_its_own_value_only() -> None:
    assert (kind_of(2), expected(2)) == (CHAIN, 2012)
    assert (kind_of(1), expected(1)) == (CHORD, list(range(10, 10 + MEMBERS)))
    assert Canvas(2, CHAIN, CHAINED.ids, "SUCCESS", 2012).well
    assert not Canvas(2, CHAIN, CHAINED.ids, "SUCCESS", 2021).well
    assert len(CHAINED.ids) == LINKS


def test_the_log_pairs_starts_with_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs"
    monkeypatch.setenv(log.LOG, str(path))
    monkeypatch.setenv(log.SEAT, OTHER)
    with log.noted("x"):
        pass
    with pytest.raises(KeyboardInterrupt), log.noted("x"):
        raise KeyboardInterrupt
    first, second = log.read(path)["x"]
    assert first.ended is not None
    assert (second.ended, second.kind) == (None, "tranship")
    assert log.read(tmp_path / "none") == {}
