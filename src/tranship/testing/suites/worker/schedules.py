"""Periodic tasks: of several schedulers one sends, and another one goes on where it has ended."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final

from tranship.ports import Capability, KeepsRecords, NameHolder, Record, keeps_records
from tranship.schedules import LEADER, Pace, Schedule
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.timetable import stamp

__all__ = ["ScheduleCases"]

NEEDS: Final = {Capability.RECORDS}
EVERY: Final = 0.1
PACE: Final = Pace(look=0.1)


class ScheduleCases:
    """Part of the worker's suite: schedules."""

    @worker_case(
        "schedule_ticks_are_sent_once",
        level="capability",
        needs=NEEDS,
        rationale="a report that every scheduler orders is sent as often as there are schedulers",
    )
    async def test_schedule_ticks_are_sent_once(self, facade: FacadeContext) -> None:
        """Three at once: one leads; every tick is there, once, under its own id; the next leads when it stops."""
        came, ticker = _ticker(every=EVERY, missed="all")
        await facade.work(ticker)
        schedulers = [facade.scheduler(tasks=[ticker], pace=PACE) for _ in range(3)]
        await facade.until_long(came, 5)
        leaders = [one for one in schedulers if one.leads]
        assert len(leaders) == 1, f"{len(leaders)} lead"
        leaders[0].stop()
        await facade.until_long(came, len(came) + 5)
        _insist_on_all(came)

    @worker_case(
        "schedule_outlives_its_leader",
        level="capability",
        needs=NEEDS,
        rationale="a scheduler that was killed says no goodbye, and its ticks must not stop with it",
    )
    async def test_schedule_outlives_its_leader(self, facade: FacadeContext) -> None:
        """Nothing is sent while the dead one may still lead; then all that it has left, each once."""
        came, ticker = _ticker(every=EVERY, missed="all")
        await facade.work(ticker)
        backend = await _keeper(facade)
        dead = NameHolder(name=LEADER, instance="dead", host="there", pid=1, since=time.time(), at=time.time())
        assert await backend.records().take_lock(dead, 1.0) is None
        scheduler = facade.scheduler(tasks=[ticker], pace=PACE)
        await facade.until(lambda: scheduler.leads, "it has taken over")
        await facade.until_long(came, 5)
        _insist_on_all(came)

    @worker_case(
        "schedule_unreadable_harms_no_other",
        level="capability",
        needs=NEEDS,
        rationale="one record of another version must not stop everybody's periodic tasks",
    )
    async def test_schedule_unreadable_harms_no_other(self, facade: FacadeContext) -> None:
        """It is left alone; the others run, with their arguments."""
        came, ticker = _ticker()
        await facade.work(ticker)
        backend = await _keeper(facade)
        sound = (
            b'{"schedule": {"name": "bad-%d", "task": "t", "every": 1, "options": {}}, "origin": "added", "last": %s, '
        )
        sound += b'"paused": false, "sent": null, "error": ""}'
        bad = [b"", b"\xff", b"[]", b'{"schedule": {"name": 1}}', b"[" * 5000]
        bad += [sound % (len(bad) + at, last) for at, last in enumerate((b"NaN", b"1e400", b'"x"', b"null", b"-1e300"))]
        for at, value in enumerate(bad):
            assert await backend.records().write(Record(f"schedule/bad-{at}", value))
        facade.scheduler(schedules=[Schedule("good", ticker, kwargs={"said": "hello"}, every=EVERY)], pace=PACE)
        await facade.until_long(came, 1)
        assert {said for _, said in came} == {"hello"}


def _ticker(**times: Any) -> tuple[list[tuple[str, str]], Any]:
    came: list[tuple[str, str]] = []

    async def ticker(said: str = "") -> None:
        came.append((current().id, said))

    return came, task(name="kit.tick", queue="q", **times)(ticker)


async def _keeper(facade: FacadeContext) -> KeepsRecords:
    backend = await facade.context.open()
    if not backend.capabilities.has(Capability.RECORDS):
        backend = await facade.context.open_results()
    assert keeps_records(backend)
    return backend


def _insist_on_all(came: list[tuple[str, str]]) -> None:
    """One tick after the other, each once, none left out."""
    ids = [task_id for task_id, _ in came]
    first = min(datetime.fromisoformat(one.rpartition("@")[2]).timestamp() for one in ids)
    wanted = [f"kit.tick@{stamp(first + EVERY * at)}" for at in range(len(ids))]
    assert sorted(ids) == sorted(wanted), f"{sorted(set(wanted) - set(ids))} are missing of {ids}"
