"""What a driver's queue does in one step with its verbs."""

from __future__ import annotations

from tranship.driver import Connection, End, Ending, Row, Table
from tranship.ports import Settled
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.driver._queue_tools import end_all, id_of, need, new_messages, take_some, traits

__all__ = ["FusingCases"]


class FusingCases:
    """What is one step with a verb; all with the trait ``fuses``."""

    @case(
        "queue_fused_end", level="capability", rationale="a result without its end runs twice, an end without it never"
    )
    async def test_queue_fused_end(self, context: CaseContext) -> None:
        """Rows are created and messages sent with the end of what is ours, and not with that of what is lost."""
        connection, table = await _fused(context)
        await connection.queue.send(new_messages(context, 2))
        ours, lost = await take_some(connection, 2)
        await end_all(connection, End.REMOVE, lost)
        following, never = new_messages(context, 2)
        endings = [
            Ending(ours.token, End.REMOVE, [Row("xx/ours", b"1")], [following]),
            Ending(lost.token, End.REMOVE, [Row("xx/lost", b"1")], [never]),
        ]
        answers = await connection.queue.end(endings)
        assert list(answers) == [Settled.CONFIRMED, Settled.LOST]
        assert [row is not None for row in await table.get(["xx/ours", "xx/lost"])] == [True, False]
        assert [id_of(one) for one in await take_some(connection, 5)] == [following.id]

    @case("queue_fused_end_first_row_wins", level="capability", rationale="a second result must not replace the first")
    async def test_queue_fused_end_first_row_wins(self, context: CaseContext) -> None:
        """A row that is there stays as it is, and the message is ended all the same."""
        connection, table = await _fused(context)
        await table.create([Row("xx/there", b"first")])
        await connection.queue.send(new_messages(context, 1))
        (held,) = await take_some(connection, 1)
        ending = Ending(held.token, End.REMOVE, [Row("xx/there", b"second")])
        assert list(await connection.queue.end([ending])) == [Settled.CONFIRMED]
        (row,) = await table.get(["xx/there"])
        assert row is not None
        assert row.value == b"first"

    @case(
        "queue_tells_what_it_creates", level="capability", rationale="who waits for a result must hear the stored one"
    )
    async def test_queue_tells_what_it_creates(self, context: CaseContext) -> None:
        """Of a row that is created, by itself or with an end, its word is heard; of one that was there, nothing."""
        connection, table = await _fused(context)
        need(context, traits(connection).tells, "tells")
        topic = connection.topic
        assert topic is not None, "the queue tells of rows (traits.tells), but there is no topic"
        heard: dict[str, bytes] = {}
        names = [f"xx/{name}" for name in ("created", "ended", "there", "silent", "last")]
        topic.subscribe(names, heard.__setitem__)
        await topic.active()
        await table.create([Row("xx/there", b"first"), Row("xx/created", b"1", tell=b"one"), Row("xx/silent", b"2")])
        await connection.queue.send(new_messages(context, 1))
        (held,) = await take_some(connection, 1)
        ended = [Row("xx/there", b"second", tell=b"second"), Row("xx/ended", b"3", tell=b"three")]
        await connection.queue.end([Ending(held.token, End.REMOVE, ended)])
        await table.create([Row("xx/there", b"third", tell=b"third"), Row("xx/last", b"", tell=b"")])

        async def all_heard() -> bool:
            return "xx/last" in heard and "xx/ended" in heard

        await context.eventually(all_heard, "what was created is told of")
        assert heard == {"xx/created": b"one", "xx/ended": b"three", "xx/last": b""}

    @case("queue_fused_send", level="capability", rationale="a duplicate that slips through runs the job twice")
    async def test_queue_fused_send(self, context: CaseContext) -> None:
        """``first`` is taken by one id, ``unless`` by none: others are answered, and not stored."""
        connection, table = await _fused(context)
        one, twin, known = new_messages(context, 3)
        one.first, twin.first = Row("xx/key", one.id.encode()), Row("xx/key", twin.id.encode())
        await table.create([Row("xx/known", b"")])
        known.unless = "xx/known"
        assert list(await connection.queue.send([one, twin, known])) == [None, one.id, known.id]
        taken = await take_some(connection, 5)
        assert [id_of(found) for found in taken] == [one.id]
        await end_all(connection, End.REMOVE, *taken)
        assert list(await connection.queue.send([one])) == [None], "its own row is no obstacle"


async def _fused(context: CaseContext) -> tuple[Connection, Table]:
    connection = await context.connect()
    need(context, traits(connection).fuses, "fuses")
    assert connection.table is not None, "the queue writes rows with its endings, and there is no table"
    return connection, connection.table
