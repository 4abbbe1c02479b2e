"""The minutes of a sampler as records, so that whoever looks later sees the hours before: a ring of twelve hours.

A record, ``samples/<place in the ring>``, has one minute of every queue. Several samplers of one broker see the same,
and so it does not matter which of them writes last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from tranship import codec
from tranship.client._link import ClientLink
from tranship.errors import MalformedMessage
from tranship.finished import finite
from tranship.operations._sampler import COARSE, MINUTE, Sample, Sampler
from tranship.ports import Record

__all__ = ["keep", "read_into"]

PREFIX: Final = "samples/"
PAGE: Final = 100
"""Records in one round trip."""

_FIGURES: Final = tuple(one.name for one in fields(Sample) if one.name != "at")
_NEEDED: Final = frozenset({"ready", "rate", "failing", "retrying"})


async def keep(link: ClientLink, sampler: Sampler) -> None:
    """Write the minutes that are past and were not written yet."""
    minutes = sampler.minutes(after=sampler.kept)
    if not minutes:
        return
    records = link.record_keeper().records()
    made = [_record(minute, samples) for minute, samples in minutes.items()]
    for start in range(0, len(made), PAGE):
        await records.put(made[start : start + PAGE])
    sampler.kept = max(minutes)


async def read_into(link: ClientLink, sampler: Sampler) -> None:
    """Read the minutes that somebody has written."""
    records = link.record_keeper().records()
    found: dict[int, Mapping[str | None, Sample]] = {}
    now, after = int(time.time() // MINUTE), ""
    while page := await records.page(PREFIX, after, PAGE):
        for record in page:
            minute, samples = _decoded(record.value)
            if now - COARSE < minute <= now:
                found[minute] = samples
        after = page[-1].key
    sampler.fill(found)
    # What was read needs not be written again.
    known = [*found, *(() if sampler.kept is None else (sampler.kept,))]
    sampler.kept = max(known, default=None)


def _record(minute: int, samples: Mapping[str | None, Sample]) -> Record:
    queues = {name: _figures(one) for name, one in samples.items() if name is not None}
    data: dict[str, Any] = {"minute": minute, "queues": queues}
    if (together := samples.get(None)) is not None:
        data["all"] = _figures(together)
    value = codec.dumps(data, name="the samples")
    return Record(f"{PREFIX}{minute % COARSE:03d}", value, ttl=COARSE * MINUTE)


def _figures(sample: Sample) -> list[float | None]:
    values = [getattr(sample, name) for name in _FIGURES]
    return [None if value is None else round(value, 4) for value in values]


def _decoded(value: bytes) -> tuple[int, Mapping[str | None, Sample]]:
    """Return a minute and its samples; what cannot be read is passed over."""
    try:
        data = codec.loads(value, codec.JSON)
    except MalformedMessage:
        return 0, {}
    match data:
        case {"minute": int(minute), "queues": dict(queues), **others}:
            named = {None: others.get("all"), **queues}
            read = {name: _sample(minute, one) for name, one in named.items()}
            return minute, {name: one for name, one in read.items() if one is not None}
    return 0, {}


def _sample(minute: int, data: Any) -> Sample | None:
    if not isinstance(data, list) or len(data) != len(_FIGURES):
        return None
    values = {name: finite(one) for name, one in zip(_FIGURES, data, strict=True)}
    if any(values[name] is None for name in _NEEDED):
        return None
    known: Any = values
    return Sample(at=(minute + 0.5) * MINUTE, **known)
