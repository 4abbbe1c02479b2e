"""Drivers with one fault each in a primitive, and the case of the contract suites that has to notice it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from driver.rows_driver import Log, Queue, Reader, RowsHarness, Table, Topic, write
from tranship.driver import End
from tranship.ports import Settled


@dataclass(frozen=True)
class PrimitiveFault:
    """One way for a driver to be wrong."""

    name: str
    caught_by: str
    parts: dict[str, Any]
    broker: dict[str, Any] = field(default_factory=dict)

    def harness(self) -> RowsHarness:
        harness = RowsHarness(**{"fuses": True, "waits": True, **self.broker}, **self.parts)
        harness.patience = 1.5  # what a fault swallows never comes
        return harness


def _queue(name: str, caught_by: str, kind: type[Queue], **broker: Any) -> PrimitiveFault:
    return PrimitiveFault(name, caught_by, {"queues": kind}, broker)


def _table(name: str, caught_by: str, kind: type[Table]) -> PrimitiveFault:
    return PrimitiveFault(name, caught_by, {"tables": kind})


def _topic(name: str, caught_by: str, kind: type[Topic]) -> PrimitiveFault:
    return PrimitiveFault(name, caught_by, {"topics": kind})


def _log(name: str, caught_by: str, kind: type[Log]) -> PrimitiveFault:
    return PrimitiveFault(name, caught_by, {"logs": kind}, {"log": True})


class AnswersTooFew(Queue):
    async def send(self, batch):
        return (await super().send(batch))[:-1]


class PostsInSilence(Queue):
    def _post(self, batch, done):
        super()._post(batch, lambda answers: done(answers) if len(batch) == 1 else None)


class RecallsEverything(Queue):
    """Of what is lost with a connection it has stored every other message, and says that it has all."""

    def _post(self, batch, done):
        super()._post(batch[::2], lambda _answers: done(ConnectionResetError("it has gone")))

    async def recall(self, batches):
        return [[None] * len(batch) for batch in batches]


class KeepsWhatWasRead(Queue):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reader = lambda: NeverClosed(self)


class NeverClosed(Reader):
    async def aclose(self):
        pass


class PostsTwice(Queue):
    def _post(self, batch, done):
        super()._post(batch, done)
        asyncio.get_running_loop().call_soon(done, [None] * len(batch))


class TellsOfWhatWasThere(Queue):
    def _end(self, ending):
        for row in ending.rows:
            if row.key in self._broker.live() and row.tell is not None:
                self._broker.heard.tell(row.key, row.tell)
        return super()._end(ending)


class TellsNothing(Queue):
    def _end(self, ending):
        for row in ending.rows:
            row.tell = None
        return super()._end(ending)


class TakesTooMany(Queue):
    async def take(self, slots, limit, wait):
        return await super().take(slots, limit + 1, wait)


class TakesByTime(Queue):
    def _take(self, slots, limit):
        return super()._take(sorted(slots, key=lambda slot: -slot[1]), limit)


class PutsBackLast(Queue):
    def _end(self, ending):
        said = super()._end(ending)
        entry = ending.token[0]
        if said is Settled.CONFIRMED and ending.end is not End.REMOVE:
            self._broker.entries.remove(entry)
            self._broker.entries.append(entry)
        return said


class HandsOutTwice(Queue):
    def _free(self, entry):
        return super()._free(entry) or entry.count == 1


class EndsEverything(Queue):
    def _end(self, ending):
        super()._end(ending)
        return Settled.CONFIRMED


class CountsReleases(Queue):
    def _end(self, ending):
        ending.end = End.REQUEUE if ending.end is End.RELEASE else ending.end
        return super()._end(ending)


class RenewsEverything(Queue):
    async def renew(self, tokens):
        await super().renew(tokens)
        return [True] * len(tokens)


class RenewsNothing(Queue):
    async def renew(self, tokens):
        return [self._ours(token) for token in tokens]


class WatchesSends(Queue):
    async def end(self, endings):
        return [self._end(one) for one in endings]


class ReturnsAtOnce(Queue):
    async def take(self, slots, limit, wait):
        return await super().take(slots, limit, 0.0)


class FindsById(Queue):
    async def find(self, ids, cancel_keys):
        return await super().find(ids, ())


class FindsWhatIsDue(Queue):
    async def find(self, ids, cancel_keys):
        return [one for one in await super().find(ids, cancel_keys) if one.state != "delayed"]


class PicksHeld(Queue):
    async def pick(self, refs):
        return [self._claim(one) for one in refs if one in self._broker.entries]


class ScansAll(Queue):
    async def scan(self, queue, state, limit):
        return await super().scan(queue, state, 1000)


class WritesForLost(Queue):
    def _end(self, ending):
        for row in ending.rows:
            if row.key not in self._broker.live():
                write(self._broker, row)
        return super()._end(ending)


class OverwritesResults(Queue):
    def _end(self, ending):
        if self._ours(ending.token):
            for row in ending.rows:
                write(self._broker, row)
        return super()._end(ending)


class IgnoresFirst(Queue):
    def _send(self, message):
        message.first = None
        return super()._send(message)


class SendsTwice(Queue):
    def _send(self, message):
        super()._send(message)
        super()._send(message)


class PeeksForGood(Queue):
    def _end(self, ending):
        if ending.token[0].peeked:
            ending.end = End.REMOVE
        return super()._end(ending)


class PeeksInCommon(Queue):
    async def _peek(self, queue, limit):
        taken = await super()._peek(queue, limit)
        for one in taken:
            one.token[0].claim = 0
        return taken


class LogsOneName(Log):
    async def read(self, name, since=0.0):
        return [entry for _, at, entry in self._broker.written if at >= since]


class LogsNewestFirst(Log):
    async def read(self, name, since=0.0):
        return (await super().read(name, since))[::-1]


class LogsForOneReader(Log):
    async def read(self, name, since=0.0):
        found = await super().read(name, since)
        self._broker.written = [one for one in self._broker.written if one[0] != name]
        return found


class LogsNoBytes(Log):
    async def append(self, name, entries):
        self._broker.written += [(name, 0.0, b"")] * len(entries)


class LogsFromNow(Log):
    async def read(self, name, since=0.0):
        return [] if since else await super().read(name)


class CreatesSlowly(Table):
    async def create(self, rows):
        there = [self._broker.live().get(row.key) for row in rows]
        await asyncio.sleep(0.01)
        for row, old in zip(rows, there, strict=True):
            if old is None:
                write(self._broker, row)
        return there


class TakesEmptyForNone(Table):
    async def create(self, rows):
        there = [self._broker.live().get(row.key) or None for row in rows]
        for row, old in zip(rows, there, strict=True):
            if not old:
                write(self._broker, row)
        return there


class PutsAnyVersion(Table):
    async def put(self, rows, if_version=None):
        return await super().put(rows)


class DeletesAnyVersion(Table):
    async def delete(self, keys, if_version=None):
        return await super().delete(keys)


class KeepsForEver(Table):
    async def create(self, rows):
        for row in rows:
            row.ttl = None
        return await super().create(rows)


class GetsWhatThereIs(Table):
    async def get(self, keys):
        return [row for row in await super().get(keys) if row is not None]


class PagesByPosition(Table):
    async def page(self, prefix, after, limit):
        keys = sorted(key for key in self._broker.live() if key.startswith(prefix))
        begin = keys.index(after) + 1 if after in keys else (len(keys) if after else 0)
        return [self._row(key) for key in keys[begin : begin + limit]]


class TellsFirst(Topic):
    async def publish(self, items):
        for name, value in items:
            for heard in self._broker.heard._heard.get(name, [])[:1]:
                heard(name, value)


class NeverForgets(Topic):
    def unsubscribe(self, names, heard):
        """Not at all."""


class SubscribesLate(Topic):
    def subscribe(self, names, heard):
        asyncio.get_running_loop().call_later(0.05, super().subscribe, names, heard)


FAULTS = (
    _queue("answers too few", "queue_send_answers_each", AnswersTooFew),
    _queue("posts and says nothing", "queue_post_answers_each", PostsInSilence, posts=True),
    _queue("recalls what it never had", "queue_recall_tells", RecallsEverything, posts=True),
    _queue("posts and answers twice", "queue_post_answers_each", PostsTwice, posts=True),
    _queue("tells of what was there", "queue_tells_what_it_creates", TellsOfWhatWasThere, tells=True),
    _queue("creates in silence", "queue_tells_what_it_creates", TellsNothing, tells=True),
    _queue("takes too many", "queue_take_limits", TakesTooMany),
    _queue("serves the least urgent", "queue_take_levels_in_order", TakesByTime),
    _queue("puts back last", "queue_keeps_order", PutsBackLast),
    _queue("hands out twice", "queue_held_is_not_taken", HandsOutTwice),
    _queue("ends everything", "queue_end_twice_is_lost", EndsEverything),
    _queue("counts releases", "queue_end_answers_each", CountsReleases),
    _queue("renews what is lost", "queue_renew_tells_lost", RenewsEverything),
    _queue("says still ours", "lease_expiry_without_heartbeat", RenewsEverything, fuses=False),
    _queue("renews nothing", "queue_renew_keeps", RenewsNothing),
    _queue("wakes for sends only", "queue_watch_wakes", WatchesSends),
    _queue("returns at once", "queue_take_waits", ReturnsAtOnce),
    _queue("finds by id only", "queue_find_tells_state", FindsById),
    _queue("finds only what is due", "queue_find_delayed", FindsWhatIsDue),
    _queue("picks what is held", "queue_pick_takes_exactly", PicksHeld),
    _queue("scans without a limit", "queue_scan_in_order", ScansAll),
    _queue("writes for a lost one", "queue_fused_end", WritesForLost),
    _queue("overwrites results", "queue_fused_end_first_row_wins", OverwritesResults),
    _queue("ignores the key", "queue_fused_send", IgnoresFirst),
    _queue("sends twice", "queue_send_answers_each", SendsTwice, fuses=False),
    _table("creates in two steps", "table_create_one_wins", CreatesSlowly),
    _table("takes empty for none", "table_create_one_wins", TakesEmptyForNone),
    _table("puts any version", "table_put_checks_version", PutsAnyVersion),
    _table("deletes any version", "table_delete_checks_version", DeletesAnyVersion),
    _table("keeps for ever", "table_ttl", KeepsForEver),
    _table("leaves out what is missing", "table_get_in_order", GetsWhatThereIs),
    _table("pages by position", "table_page_in_order", PagesByPosition),
    _topic("tells the first", "topic_same_name_twice", TellsFirst),
    _topic("never forgets", "topic_unsubscribed_hears_nothing", NeverForgets),
    _topic("subscribes late", "topic_active_hears_all", SubscribesLate),
    _queue("leaves a reader's behind", "queue_reader", KeepsWhatWasRead, reads=True),
    _queue("gives back nothing", "queue_peek_changes_nothing", PeeksForGood, peeks=True),
    _queue("lets others have it", "queue_peek_changes_nothing", PeeksInCommon, peeks=True),
    _log("knows no names", "log_reads_what_was_appended", LogsOneName),
    _log("reads backwards", "log_reads_what_was_appended", LogsNewestFirst),
    _log("is read once", "log_read_by_many", LogsForOneReader),
    _log("keeps no entry", "log_reads_what_was_appended", LogsNoBytes),
    _log("knows no time", "log_since", LogsFromNow),
)
