"""What the table of a driver promises: one winner, versions, times, pages in order."""

from __future__ import annotations

import asyncio

from tranship.driver import Row, Table
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["TableSuite"]


class TableSuite:
    """Everything about the table of a driver."""

    @case(
        "table_create_one_wins", level="core", rationale="two results of one task, and callers who see different ones"
    )
    async def test_table_create_one_wins(self, context: CaseContext) -> None:
        """None for who wrote it, else what is there; of ten at once, over two connections, one writes."""
        table, other = await _table(context), await _table(context)
        assert list(await table.create([Row("xx/a", b"1"), Row("xx/b", b"2")])) == [None, None]
        assert list(await other.create([Row("xx/b", b"3"), Row("xx/c", b"4")])) == [b"2", None]
        assert list(await table.create([Row("xx/empty", b"")])) == [None]
        assert list(await other.create([Row("xx/empty", b"5")])) == [b""], "an empty value was taken for none"
        values = [b"%d" % number for number in range(10)]
        rivals = [(table, other)[at % 2].create([Row("xx/race", value)]) for at, value in enumerate(values)]
        answers = [answer for (answer,) in await asyncio.gather(*rivals)]
        assert answers.count(None) == 1, f"{answers.count(None)} won"
        assert {answer for answer in answers if answer is not None} == {values[answers.index(None)]}

    @case("table_get_in_order", level="core", rationale="somebody else's result is worse than none")
    async def test_table_get_in_order(self, context: CaseContext) -> None:
        """Any bytes, under any key, in the order asked for; None for what is not there."""
        table, other = await _table(context), await _table(context)
        keys = [
            "xx/plain",
            "xx/with space",
            "xx/sl/as/h",
            "xx/ü",
            "xx/..",
            "xx/*?",
            "xx/Case",
            "xx/case",
            "xx/" + "k" * 1000,
        ]
        values = {key: bytes(range(256)) + key.encode() for key in keys}
        await table.create([Row(key, value) for key, value in values.items()])
        asked = [*reversed(keys), "xx/none"]
        found = await other.get(asked)
        assert [None if row is None else row.value for row in found] == [values.get(key) for key in asked]
        assert [row.key for row in found if row is not None] == list(reversed(keys))

    @case("table_put_checks_version", level="core", rationale="two who move one message, each sure that it is his")
    async def test_table_put_checks_version(self, context: CaseContext) -> None:
        """Written without a condition, or in the right version only; each write has a new version; of ten, one wins."""
        table, other = await _table(context), await _table(context)
        (first,) = await table.put([Row("xx/a", b"1")])
        (second,) = await other.put([Row("xx/a", b"2")])
        assert first is not None
        assert second is not None
        assert first != second
        assert list(await table.put([Row("xx/a", b"3")], [first])) == [None]
        (third,) = await table.put([Row("xx/a", b"4")], [second])
        (row,) = await other.get(["xx/a"])
        assert row is not None
        assert (row.value, row.version) == (b"4", third)
        assert list(await table.put([Row("xx/none", b"")], [row.version])) == [None], "it wrote what was not there"
        rivals = [(table, other)[at % 2].put([Row("xx/a", b"%d" % at)], [row.version]) for at in range(10)]
        won = [answer for (answer,) in await asyncio.gather(*rivals) if answer is not None]
        assert len(won) == 1, f"{len(won)} won"

    @case("table_delete_checks_version", level="core", rationale="deleting what another one has just written loses it")
    async def test_table_delete_checks_version(self, context: CaseContext) -> None:
        """True for what was deleted; with a version only in that version."""
        table = await _table(context)
        old, new = await table.put([Row("xx/a", b"1"), Row("xx/b", b"2")])
        (newer,) = await table.put([Row("xx/b", b"3")])
        assert old is not None
        assert new is not None
        assert newer is not None
        assert list(await table.delete(["xx/a", "xx/b", "xx/c"], [old, new, old])) == [True, False, False]
        assert list(await table.delete(["xx/a", "xx/b"])) == [False, True]
        assert list(await table.get(["xx/a", "xx/b"])) == [None, None]
        assert list(await table.create([Row("xx/a", b"again")])) == [None]

    @case("table_page_in_order", level="core", rationale="a page that is left out is a cancel that nobody hears of")
    async def test_table_page_in_order(self, context: CaseContext) -> None:
        """All rows of a prefix, by key, page by page, without gap or repetition, while others come and go."""
        table = await _table(context)
        keys = [f"xx/{number:03d}" for number in range(25)]
        await table.create([Row(key, b"") for key in reversed(keys)])
        await table.create([Row("xy/other", b""), Row("x/other", b"")])
        found: list[str] = []
        after = ""
        while rows := await table.page("xx/", after, 10):
            assert len(rows) <= 10
            assert all(row.version for row in rows)
            found += [row.key for row in rows]
            after = rows[-1].key
            await table.delete([after])
        assert found == keys
        assert [row.key for row in await table.page("xx/00", "", 100)] == keys[:9]

    @case("table_ttl", level="core", rationale="what stays for ever fills the store, what goes early is lost")
    async def test_table_ttl(self, context: CaseContext) -> None:
        """There for its time, then gone for every verb; one without a time stays."""
        table = await _table(context)
        await table.create([Row("xx/brief", b"1", 0.5), Row("xx/stays", b"2")])
        assert [row.key for row in await table.page("xx/", "", 10)] == ["xx/brief", "xx/stays"]

        async def gone() -> bool:
            return (await table.get(["xx/brief"]))[0] is None

        await context.eventually(gone, "a row with 0.5 s ends")
        assert [row.key for row in await table.page("xx/", "", 10)] == ["xx/stays"]
        assert list(await table.delete(["xx/brief"])) == [False]
        assert list(await table.create([Row("xx/brief", b"3")])) == [None], "its key is still taken"


async def _table(context: CaseContext) -> Table:
    connection = await context.connect()
    if connection.table is None:
        context.skip("the driver has no table")
    return connection.table
