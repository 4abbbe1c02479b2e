"""What the log of a driver promises: nothing that was stored is missing, in the order that it was stored in."""

from __future__ import annotations

import asyncio
import time

from tranship.driver import Log
from tranship.driver._connection import log_of
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["LogSuite"]


class LogSuite:
    """Everything about the log of a driver."""

    @case(
        "log_reads_what_was_appended", level="core", rationale="a worker that misses one cancel runs what was cancelled"
    )
    async def test_log_reads_what_was_appended(self, context: CaseContext) -> None:
        """Any bytes, in order, of that name alone, at once and over another connection; and again."""
        log, other = await _log(context), await _log(context)
        assert list(await log.read("aa")) == []
        entries = [b"%d " % number + bytes(range(256)) for number in range(50)]
        await log.append("aa", entries[:30])
        await log.append("bb", [b"of another name"])
        await log.append("aa", [])
        await log.append("aa", entries[30:])
        for reader in (log, other, log):
            assert list(await reader.read("aa")) == entries
        assert list(await other.read("bb")) == [b"of another name"]
        await other.append("aa", [b"one more"])
        assert list(await log.read("aa")) == [*entries, b"one more"]

    @case("log_read_by_many", level="core", rationale="every worker of a fleet reads it when the broker is back")
    async def test_log_read_by_many(self, context: CaseContext) -> None:
        """Ten read while two write: each reads all that was there when it began, in order."""
        log, other = await _log(context), await _log(context)
        await log.append("aa", [b"%d" % number for number in range(20)])

        async def write() -> None:
            for number in range(20, 40):
                await other.append("aa", [b"%d" % number])

        writing = context.start(write())
        found = await asyncio.gather(*[(log, other)[number % 2].read("aa") for number in range(10)])
        await writing
        every = [b"%d" % number for number in range(40)]
        for entries in found:
            assert len(entries) >= 20, f"{20 - len(entries)} of 20 entries that were there are missing"
            assert list(entries) == every[: len(entries)]
        assert list(await log.read("aa")) == every

    @case("log_since", level="core", rationale="a minute of heartbeats must not cost a day of them")
    async def test_log_since(self, context: CaseContext) -> None:
        """What was appended since then is there, whatever else; and all of it for a time before the first."""
        log, began = await _log(context), time.time()
        await log.append("aa", [b"1", b"2"])
        assert list(await log.read("aa", began - 60)) == [b"1", b"2"]
        moment = time.time()
        await log.append("aa", [b"3"])
        found = list(await log.read("aa", moment - 1))
        assert found[-1:] == [b"3"]
        assert found == [b"1", b"2", b"3"][-len(found) :]


async def _log(context: CaseContext) -> Log:
    log = log_of(await context.connect())
    if log is None:
        context.skip("the driver has no log: cancels and heartbeats are in its table, if it has one")
    return log
