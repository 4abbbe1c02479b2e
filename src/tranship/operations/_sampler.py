"""What queues and workers did over the last hours: depths, rates and latencies, from looks some seconds apart.

Nothing here does I/O: whoever looks, with an operator of either colour, hands over what it has seen.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tranship.operations._queues import QueueReport
from tranship.ports import Heartbeat, QueueTotals

__all__ = ["COARSE", "MINUTE", "Sample", "Sampler"]

APART: Final = 1.0
"""Seconds between two heartbeats of a worker that are compared: what is nearer says too little."""
SILENT: Final = 20.0
"""Seconds after which a worker that is not heard of any more is taken to do nothing."""
FINE: Final = 180
"""Samples of a queue that are kept as they were taken."""
COARSE: Final = 720
"""Minutes of a queue that are kept: twelve hours."""
MINUTE: Final = 60.0
MOST: Final = 200
"""Queues of which samples are kept; the rest count only for all of them together."""

_NOTHING: Final = QueueTotals()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One queue, or all of them, at one moment; a minute that is past is the mean of its moments. None: not known."""

    at: float
    """Epoch seconds."""
    ready: float
    """How many tasks wait for a worker."""
    delayed: float | None
    """How many wait for their time."""
    in_flight: float | None
    """How many are held by workers."""
    dead: float | None
    """How many dead letters there are."""
    oldest_age: float | None
    """Seconds for which the oldest ready task has waited."""
    rate: float
    """Tasks that came to an end per second, as workers say; 0.0 where none does."""
    failing: float
    """How many of those failed, or were dead-lettered."""
    retrying: float
    """Attempts per second that failed and are followed by another."""
    run_time: float | None
    """Mean seconds that an attempt took; None: none ended."""


class Sampler:
    """Makes series of samples, of a bounded size, out of what an operator sees.

    Give it what :meth:`Operator.queues` and :meth:`Operator.workers` return, every few seconds. It keeps the latest
    samples as they are, and of the hours before one for each minute. Not thread-safe.

    Attributes:
        kept: the latest minute that :meth:`Operator.keep_samples` has written; None: none.
    """

    def __init__(self) -> None:
        self._speeds = _Speeds()
        self._series: dict[str | None, _Series] = {}
        self.kept: int | None = None

    def take(
        self, queues: Sequence[QueueReport], workers: Iterable[Heartbeat] = (), *, at: float | None = None
    ) -> Mapping[str, Sample]:
        """Take a sample of each queue, and of all of them together; return them by name.

        Args:
            queues: every one there is.
            workers: their latest heartbeats; rates come from them.
            at: epoch seconds; None: now.
        """
        now = time.time() if at is None else at
        speeds = self._speeds.take(workers, now)
        samples = {one.name: _sample(one, speeds.get(one.name), now) for one in queues}
        self._forget(now)
        self._keep(None, _together(list(samples.values()), now))
        for name, sample in samples.items():
            self._keep(name, sample)
        return samples

    @property
    def queues(self) -> Sequence[str]:
        """The queues of which there are samples, by name."""
        return sorted(name for name in self._series if name is not None)

    def latest(self, queue: str | None = None) -> Sample | None:
        """Return the latest sample of a queue, or of all together; None: there is none."""
        series = self._series.get(queue)
        return None if series is None or not series.fine else series.fine[-1]

    def series(self, queue: str | None = None, *, seconds: float = math.inf) -> Sequence[Sample]:
        """Return the samples of a queue, or of all together, of the last ``seconds``, oldest first."""
        series = self._series.get(queue)
        if series is None:
            return []
        since, begin = series.latest - seconds, series.fine[0].at if series.fine else math.inf
        minutes = [one for one in series.coarse if since <= one.at < begin]
        return [*minutes, *(one for one in series.fine if one.at >= since)]

    def minutes(self, *, after: int | None = None) -> Mapping[int, Mapping[str | None, Sample]]:
        """Return the minutes that are past, by their number since the epoch: of each queue, and of all under None.

        Args:
            after: leave out this one and those before it; None: none.
        """
        found: dict[int, dict[str | None, Sample]] = {}
        for name, series in self._series.items():
            for sample in reversed(series.coarse):
                minute = int(sample.at // MINUTE)
                if after is not None and minute <= after:
                    break
                found.setdefault(minute, {})[name] = sample
        return found

    def fill(self, minutes: Mapping[int, Mapping[str | None, Sample]]) -> None:
        """Take minutes that another sampler has made, as :meth:`minutes` returns them; those that are here stay."""
        for name in dict.fromkeys(name for samples in minutes.values() for name in samples):
            if (series := self._of(name)) is not None:
                series.fill({minute: samples[name] for minute, samples in minutes.items() if name in samples})

    def _keep(self, name: str | None, sample: Sample) -> None:
        if (series := self._of(name)) is not None:
            series.add(sample)

    def _of(self, name: str | None) -> _Series | None:
        if name not in self._series and len(self._series) > MOST:
            return None
        return self._series.setdefault(name, _Series())

    def _forget(self, now: float) -> None:
        """Forget queues that have not been there for as long as minutes are kept."""
        oldest = now - COARSE * MINUTE
        for name in [name for name, series in self._series.items() if series.latest < oldest]:
            del self._series[name]


class _Series:
    """The samples of one queue."""

    def __init__(self) -> None:
        self.fine: deque[Sample] = deque(maxlen=FINE)
        self.coarse: deque[Sample] = deque(maxlen=COARSE)
        self._minute: list[Sample] = []

    @property
    def latest(self) -> float:
        """When the latest of them was taken; one of them always was."""
        return (self.fine or self.coarse)[-1].at

    def fill(self, minutes: Mapping[int, Sample]) -> None:
        """Take minutes of somebody else where there are none of our own."""
        known = {**minutes, **{int(one.at // MINUTE): one for one in self.coarse}}
        self.coarse.clear()
        self.coarse.extend(known[minute] for minute in sorted(known))

    def add(self, sample: Sample) -> None:
        if self._minute and sample.at // MINUTE != self._minute[0].at // MINUTE:
            self.coarse.append(_mean(self._minute))
            self._minute = []
        self._minute.append(sample)
        self.fine.append(sample)


@dataclass(slots=True)
class _Speed:
    """What is done per second."""

    ended: float = 0.0
    failed: float = 0.0
    retried: float = 0.0
    seconds: float = 0.0

    def add(self, other: _Speed) -> None:
        self.ended += other.ended
        self.failed += other.failed
        self.retried += other.retried
        self.seconds += other.seconds


@dataclass(slots=True)
class _Seen:
    """One worker, as it was heard of last."""

    at: float
    """By its clock."""
    totals: Mapping[str, QueueTotals]
    heard: float
    """By ours."""
    speeds: Mapping[str, _Speed]


class _Speeds:
    """How fast workers end tasks: what each has done between its two latest heartbeats."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], _Seen] = {}

    def take(self, beats: Iterable[Heartbeat], now: float) -> Mapping[str, _Speed]:
        """Return the speed of each queue, of all workers together."""
        self._workers = {(beat.worker, beat.instance): self._seen(beat, now) for beat in beats}
        together: dict[str, _Speed] = {}
        for seen in self._workers.values():
            for queue, speed in seen.speeds.items() if now - seen.heard < SILENT else ():
                together.setdefault(queue, _Speed()).add(speed)
        return together

    def _seen(self, beat: Heartbeat, now: float) -> _Seen:
        before = self._workers.get((beat.worker, beat.instance))
        if before is None:
            # One that has just begun has done all of it since.
            begun = beat.started_at if beat.started_at is not None and beat.at - beat.started_at < MINUTE else None
            if begun is None:
                return _Seen(beat.at, beat.totals, now, {})
            before = _Seen(begun, {}, now, {})
        apart = beat.at - before.at
        if apart < APART:
            return before
        speeds = {queue: _speed(before.totals.get(queue, _NOTHING), one, apart) for queue, one in beat.totals.items()}
        return _Seen(beat.at, beat.totals, now, speeds)


def _speed(before: QueueTotals, after: QueueTotals, apart: float) -> _Speed:
    return _Speed(
        max(0, after.ended - before.ended) / apart,
        max(0, after.failed - before.failed) / apart,
        max(0, after.retried - before.retried) / apart,
        max(0.0, after.seconds - before.seconds) / apart,
    )


def _sample(report: QueueReport, speed: _Speed | None, at: float) -> Sample:
    speed = speed or _Speed()
    attempts = speed.ended + speed.retried
    return Sample(
        at=at,
        ready=report.backlog,
        delayed=report.delayed,
        in_flight=report.in_flight,
        dead=report.dead,
        oldest_age=report.oldest_age,
        rate=speed.ended,
        failing=speed.failed,
        retrying=speed.retried,
        run_time=speed.seconds / attempts if attempts else None,
    )


def _together(samples: Sequence[Sample], at: float) -> Sample:
    """Return what all queues come to."""
    ages = [one.oldest_age for one in samples if one.oldest_age is not None]
    return Sample(
        at=at,
        ready=sum(one.ready for one in samples),
        delayed=_sum(one.delayed for one in samples),
        in_flight=_sum(one.in_flight for one in samples),
        dead=_sum(one.dead for one in samples),
        oldest_age=max(ages, default=None),
        rate=sum(one.rate for one in samples),
        failing=sum(one.failing for one in samples),
        retrying=sum(one.retrying for one in samples),
        run_time=_run_time(samples),
    )


def _mean(samples: Sequence[Sample]) -> Sample:
    """Return a minute as one sample."""
    count = len(samples)
    return Sample(
        at=sum(one.at for one in samples) / count,
        ready=sum(one.ready for one in samples) / count,
        delayed=_mean_of(one.delayed for one in samples),
        in_flight=_mean_of(one.in_flight for one in samples),
        dead=_mean_of(one.dead for one in samples),
        # The longest wait is what somebody looks for in a minute.
        oldest_age=max((one.oldest_age for one in samples if one.oldest_age is not None), default=None),
        rate=sum(one.rate for one in samples) / count,
        failing=sum(one.failing for one in samples) / count,
        retrying=sum(one.retrying for one in samples) / count,
        run_time=_run_time(samples),
    )


def _run_time(samples: Sequence[Sample]) -> float | None:
    """The mean over all attempts."""
    known = [(one.run_time, one.rate + one.retrying) for one in samples if one.run_time is not None]
    attempts = sum(count for _, count in known)
    return sum(seconds * count for seconds, count in known) / attempts if attempts else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if known else None


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None
