"""The statements of the hot paths use the indexes made for them: a missed partial index is a silent full scan."""

import re
import sqlite3
from collections.abc import Iterator

import pytest

from tranship.backends.sqlite import _database, _queue, _table, _tasks, _topic


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _database.create(connection, "memory")
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    parameters = [0] * (max(numbered) if numbered else sql.count("?"))
    rows = connection.execute("EXPLAIN QUERY PLAN " + sql, parameters).fetchall()
    return [row[3] for row in rows if row[3].startswith(("SEARCH", "SCAN")) and "json_each" not in row[3]]


READY = "SEARCH task USING COVERING INDEX task_ready (ns=? AND queue=?)"


@pytest.mark.parametrize("queues", [1, 5])
def test_outlook_reads_indexes_alone(database, queues):
    assert plan(database, _tasks.outlook(queues)) == [
        "SCAN CONSTANT ROW",
        READY,
        "SEARCH task USING COVERING INDEX task_delayed",
        "SEARCH task USING COVERING INDEX task_leased",
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (_tasks._READY, ["SEARCH task USING INDEX task_ready (ns=? AND queue=?)"]),
        (_tasks._READY_LEVEL, ["SEARCH task USING INDEX task_ready (ns=? AND queue=? AND priority=?)"]),
        (_tasks._PROMOTE, ["SEARCH task USING INDEX task_delayed (due<?)"]),
        (_tasks._REAP, ["SEARCH task USING INDEX task_leased (due<?)"]),
        (_tasks._TAKE, ["SEARCH task USING INTEGER PRIMARY KEY (rowid=?)"]),
        (_tasks._BODIES, ["SEARCH body USING INTEGER PRIMARY KEY (rowid=?)"]),
        (_topic.TOLD, ["SEARCH row USING INTEGER PRIMARY KEY (rowid>?)", "SCAN sqlite_sequence"]),
        (_topic.SIGNALS_SINCE, ["SEARCH signal USING INTEGER PRIMARY KEY (rowid>?)", "SCAN sqlite_sequence"]),
        (_table.READ, ["SEARCH row USING INDEX sqlite_autoindex_row_1 (ns=? AND key=?)"]),
        (_table._ONE, ["SEARCH row USING INDEX sqlite_autoindex_row_1 (ns=? AND key=?)"]),
        (_table._PAGE, ["SEARCH row USING INDEX sqlite_autoindex_row_1 (ns=? AND key>? AND key<?)"]),
        (
            _queue.BY_ID,
            [
                "SEARCH task USING INDEX sqlite_autoindex_task_1 (ns=? AND id=?)",
                "SEARCH body USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        (
            _queue.BY_KEY,
            [
                "SEARCH task USING INDEX task_cancel (ns=? AND cancel_key=?)",
                "SEARCH body USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        (
            _queue.IN_ORDER["ready"],
            [
                "SEARCH task USING INDEX task_ready (ns=? AND queue=?)",
                "SEARCH body USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        (_tasks._NAMED, ["SEARCH task USING INTEGER PRIMARY KEY (rowid=?)"]),
    ],
)
def test_statement_searches_its_index(database, sql, expected):
    assert plan(database, sql) == expected


def test_claims_are_not_sorted(database):
    rows = database.execute("EXPLAIN QUERY PLAN " + _tasks._READY, (0, 0, 0)).fetchall()
    assert not [row for row in rows if "TEMP B-TREE" in row[3]]


def test_counting_reads_no_table(database):
    found = plan(database, _queue.COUNTS)
    assert len(found) == 3
    assert all("COVERING INDEX" in step for step in found)
