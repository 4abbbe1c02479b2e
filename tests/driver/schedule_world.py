"""A world in which days pass in seconds: a broker by virtual time, schedulers that die anywhere, and who checks the ticks.

What has to be sent is found out without the code under test: minute by minute by the calendar, and from who was alive.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from driver.rows_driver import Broker
from tranship import codec
from tranship.driver import DriverBackend
from tranship.ports import NameHolder, Record
from tranship.protocol import Encoder
from tranship.schedules import Book, Engine, Pace, Schedule

PACE = Pace(lease=60.0, look=20.0, known=120.0)
"""A tenth of what it is: a day has 86,400 s, and a scheduler looks each second."""
TAKEOVER = PACE.lease + 3 * PACE.look
"""Seconds within which somebody who lives has dealt with what is due."""


class WorldBroker(Broker):
    """Its time is the loop's."""

    start = 0.0

    def now(self) -> float:
        return self.start + asyncio.get_running_loop().time()


_WAITS = {"submit": 0.0, "write": 1 / 25}
"""How often somebody is held up before a verb."""


class Mortal:
    """A port whose user dies at one of its verbs: before it is done, or after, with nobody to hear the answer. Or it is
    held up there, for longer than its lease, and does not know that.
    """

    def __init__(self, port: Any, life: Life) -> None:
        self._port, self._life = port, life

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._port, name)

        async def call(*arguments: Any) -> Any:
            # What is on its way to the broker may arrive late, and nobody can help it.
            await self._life.step(before=True, waits=_WAITS.get(name, 1 / 2000))
            answer = await verb(*arguments)
            await self._life.step(before=False)
            return answer

        return call


class Watched:
    """Records of which the world sees what is written."""

    def __init__(self, records: Any, world: World) -> None:
        self._records, self._world = records, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def write(self, record: Record) -> bool:
        done: bool = await self._records.write(record)
        if done:
            self._world.written(record)
        return done


@dataclass
class Life:
    """Of one scheduler. It ends at its time; then at the next verb, before or after it."""

    dice: random.Random
    began: float
    now: Callable[[], float]
    dies_before: bool = False
    is_over: bool = False
    ended: float | None = None
    held_up: list[tuple[float, float]] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self, *, before: bool, waits: float = 0.0) -> None:
        if self.dice.random() < waits:
            began = self.now()
            try:
                await asyncio.sleep(self.dice.uniform(1, 30) * PACE.lease)
            finally:
                self.held_up.append((began, self.now()))
        if self.is_over and before == self.dies_before:
            self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()


class World:
    def __init__(self, seed: int, start: datetime, schedules: Sequence[Schedule]) -> None:
        self.dice = random.Random(seed)
        self.broker = WorldBroker(fuses=True)
        self.broker.start = start.timestamp()
        self.schedules = list(schedules)
        self.lives: list[Life] = []
        self._encoder = Encoder()
        self._numbers = iter(range(1_000_000))
        self.repeats = 0
        """How often something was sent that had been sent before."""
        self._last: dict[str, float] = {}
        self._known: dict[str, float] = {}
        """Since when each schedule is known: all may have been held up before they said so."""

    @property
    def now(self) -> float:
        return self.broker.now()

    async def live(self, seconds: float) -> None:
        """Have three schedulers, each of which dies and comes back, until ``seconds`` have passed."""
        backend = self.broker.backend(result_ttl=10_000_000)
        await backend.open()
        end = self.now + seconds
        outages = self._outages(self.now, end)
        try:
            await asyncio.gather(*(self._slot(backend, end, outages) for _ in range(3)))
        finally:
            await backend.aclose()

    def _outages(self, begin: float, end: float) -> list[tuple[float, float]]:
        """Once a day or so everybody is dead for some hours."""
        found, at = [], begin + self.dice.uniform(20_000, 60_000)
        while at < end:
            found.append((at, at + self.dice.uniform(600, 20_000)))
            at += self.dice.uniform(50_000, 110_000)
        return found

    async def _slot(self, backend: DriverBackend, end: float, outages: Sequence[tuple[float, float]]) -> None:
        while self.now < end:
            until = min(end, self.now + self.dice.expovariate(1 / 5000))
            back = until + self.dice.expovariate(1 / 1500)
            for begin, over in outages:
                if begin <= self.now < over:
                    until, back = self.now, over
                elif self.now < begin < until:
                    until, back = begin, over + self.dice.uniform(0, 100)
            if until > self.now:
                await self._life(backend, until, last=until == end)
            await asyncio.sleep(max(0.001, back - self.now))

    async def _life(self, backend: DriverBackend, until: float, *, last: bool) -> None:
        life = Life(self.dice, self.now, lambda: self.now, dies_before=self.dice.random() < 0.5)
        self.lives.append(life)
        engine = self._engine(backend, life)
        running = asyncio.create_task(engine.run())
        await asyncio.wait({running}, timeout=until - self.now)
        assert not running.done(), running.exception()
        life.ended = self.now
        if not last:
            life.is_over = True
            # It dies at the next verb: in the middle of something more often than not.
            await asyncio.wait_for(life.dead.wait(), 60 * PACE.lease)
            life.ended = self.now
        running.cancel()
        await asyncio.wait({running})

    def _engine(self, backend: DriverBackend, life: Life) -> Engine:
        records: Any = Mortal(Watched(backend.records(), self), life)
        submitter = Mortal(backend.submitter(), life)

        async def submit(calls: Any) -> dict[int, Any]:
            messages = []
            for call in calls:
                message = self._encoder.encode(call.task.envelope(call.args, call.kwargs, now=self.now))
                message.check_id = True
                messages.append(message)
            answers = await submitter.submit(messages)
            self.repeats += any(getattr(one, "duplicate_of", None) for one in answers)
            return {at: answer for at, answer in enumerate(answers) if isinstance(answer, Exception)}

        instance = str(next(self._numbers))
        return Engine(
            records,
            Book(records, "the world"),
            submit,
            [(one, "code") for one in self.schedules],
            holder=NameHolder(name="scheduler", instance=instance, host="here", at=self.now, since=self.now),
            now=lambda: self.now,
            pace=PACE,
        )

    def written(self, record: Record) -> None:
        """Insist that nobody goes back behind what has been dealt with."""
        if record.key.startswith("schedule/"):
            last = codec.loads(record.value, codec.JSON)["last"]
            assert last >= self._last.get(record.key, 0.0), f"{record.key} was set back"
            self._last[record.key] = last
            self._known.setdefault(record.key, last)

    # What became of it.

    def sent(self, schedule: Schedule) -> dict[float, float]:
        """When each tick was sent."""
        found: dict[float, float] = {}
        for entry in self.broker.entries:
            name, _, moment = entry.message.id.rpartition("@")
            if name == schedule.name:
                tick = datetime.fromisoformat(moment).timestamp()
                assert tick not in found, f"{entry.message.id} was sent twice"
                found[tick] = entry.at
        return found

    def alive(self, begin: float, end: float) -> bool:
        """Whether one scheduler lived for long enough between the two to do what had to be done."""
        return any(min(over, end) - max(began, begin) >= TAKEOVER for began, over in self._spans())

    def served(self, moment: float) -> float | None:
        """When somebody had lived for long enough behind ``moment``; None: nobody."""
        found = [
            max(began, moment) + TAKEOVER for began, over in self._spans() if max(began, moment) + TAKEOVER <= over
        ]
        return min(found, default=None)

    def _spans(self) -> list[tuple[float, float]]:
        """When each scheduler was at work and not held up."""
        found = []
        for life in self.lives:
            began = life.began
            for held_up, over in life.held_up:
                found.append((began, held_up))
                began = over
            found.append((began, self.now if life.ended is None else life.ended))
        return found

    def check(self, schedule: Schedule, ticks: Sequence[float]) -> Counter[str]:
        """Insist that every tick became what the policy says; return how many became what."""
        sent, table, name = self.sent(schedule), schedule.timetable, schedule.name
        grace = table.lateness[0]
        first = self._known[f"schedule/{name}"]
        ticks = [one for one in ticks if one > first and table.due(name, one) < self.now - grace - TAKEOVER]
        counts: Counter[str] = Counter()
        strangers = [one for one in sent if one not in ticks and ticks[0] < one < ticks[-1]]
        assert not strangers, f"{name}: sent, and no ticks: {strangers}"
        for tick in ticks:
            due = table.due(name, tick)
            if tick in sent:
                assert sent[tick] >= due - 0.001, f"{name}: {tick} came too early"
            late = tick in sent and sent[tick] - due > grace
            if tick in sent and not late:
                counts["in time"] += 1
                continue
            assert not self.alive(due, due + grace), f"{name}: {tick} was missed, and somebody was there"
            counts["late" if late else "missed"] += 1
            _JUDGES[table.missed](self, schedule, tick, due, sent, ticks)
        return counts


def _skipped(world: World, schedule: Schedule, tick: float, due: float, sent: Any, ticks: Any) -> None:
    assert tick not in sent, f"{schedule.name}: {tick} was too late, and was sent all the same"


def _all(world: World, schedule: Schedule, tick: float, due: float, sent: Any, ticks: Any) -> None:
    by = world.served(due)
    if by is None:
        # Until the end of the world nobody was there for long enough.
        return
    assert tick in sent, f"{schedule.name}: {tick} was never sent"
    assert sent[tick] <= by, f"{schedule.name}: {tick} could have been sent {sent[tick] - by:.0f} s before"


def _once(world: World, schedule: Schedule, tick: float, due: float, sent: Any, ticks: Any) -> None:
    table, name = schedule.timetable, schedule.name
    by = world.served(due)
    if by is None:
        return
    after = [one for one in sent if one >= tick and sent[one] <= by]
    assert after, f"{name}: nothing made up for {tick} when somebody was there"
    if tick in sent:
        came = [one for one in ticks if table.due(name, one) <= sent[tick]]
        assert came[-1] == tick, f"{name}: {tick} was late, and not the latest"


_JUDGES: dict[str, Callable[..., None]] = {"skip": _skipped, "all": _all, "once": _once}


def minutes(begin: datetime, seconds: float, fits: Callable[[datetime], bool], zone: str) -> list[float]:
    """Every minute that fits, by the clock on the wall of a zone, by time that passes."""
    here, found, at = ZoneInfo(zone), [], begin.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(int(seconds // 60)):
        at += timedelta(minutes=1)
        if fits(at.astimezone(here)):
            found.append(at.timestamp())
    return found


def daily(begin: datetime, seconds: float, hour: int, minute: int, zone: str) -> list[float]:
    """One moment a day; where the clock jumps over it, the first one behind the jump; the first of two."""
    here, found = ZoneInfo(zone), []
    day = begin.astimezone(here).date()
    for _ in range(int(seconds // 86_400) + 2):
        wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=here)
        at = wall
        while at.astimezone(UTC).astimezone(here).replace(tzinfo=None) != at.replace(tzinfo=None):
            at = (at.replace(tzinfo=None) + timedelta(minutes=1)).replace(tzinfo=here)
        if begin.timestamp() < at.timestamp() <= begin.timestamp() + seconds:
            found.append(at.timestamp())
        day += timedelta(days=1)
    return found
