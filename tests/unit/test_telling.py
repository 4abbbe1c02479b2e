"""What running tasks tell, on its way to the store."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tranship.envelope import Envelope
from tranship.errors import LeaseLost
from tranship.outcomes import Progress
from tranship.parts import decode_parts, parts_prefix, run_key
from tranship.ports import Record, Records, records_of
from tranship.registry import Registry
from tranship.worker import _telling
from tranship.worker._telling import Tellers


async def opened(name: str) -> Records:
    backend = Registry().create(f"memory://{name}")
    await backend.open()
    records = records_of(backend)
    assert records is not None
    return records


async def parts_in(records: Records, task_id: str) -> list[str]:
    (run,) = await records.read([run_key(task_id)])
    assert run is not None
    pages = await records.page(parts_prefix(task_id, run.value.decode()), "", 500)
    return [part for one in pages for part in decode_parts(one.value)]


async def test_much_is_written_in_several_writes_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_telling, "CHUNK", 100)
    monkeypatch.setattr(_telling, "AT_ONCE", 3)
    records = await opened("telling-much")
    tellers = Tellers(records, limit=1000, ttl=60.0)
    teller = tellers.teller(Envelope(id="much", task="t"))
    assert teller is not None
    for number in range(200):
        teller.emit(b'"part %d"' % number)
    await tellers.finish(teller)
    assert not teller.pending
    assert not teller.full
    assert await parts_in(records, "much") == [f"part {number}" for number in range(200)]


async def test_a_run_that_is_over_tells_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    records = await opened("telling-late")
    await records.put([Record(run_key("late"), b"000001-99999999999999")])
    tellers = Tellers(records, limit=1000, ttl=60.0)
    teller = tellers.teller(Envelope(id="late", task="t"))
    assert teller is not None
    with caplog.at_level(logging.WARNING, "tranship.worker"):
        teller.emit(b"1")
        await tellers.finish(teller)
        for _ in range(3):
            teller.progress(Progress(0.5))
        await asyncio.sleep(0)
        await tellers.finish(teller)
    with pytest.raises(LeaseLost, match="runs again elsewhere"):
        teller.emit(b"2")
    assert not teller.pending
    assert len(caplog.records) == 1, "it is told once"
