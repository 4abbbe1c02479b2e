"""Debug messages: only when the client and logging both say so, through logging, and never with a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sides import KINDS, Side, side_of

pytestmark = pytest.mark.usefixtures("field_operator", "no_links_left")
ROOT = "sandai.operator_client"


@pytest.fixture(params=KINDS)
def side(request, field_url) -> Iterator[Side]:
    with side_of(request.param, broker_url=field_url, timeout=20) as side:
        yield side


def loggers(caplog) -> set[str]:
    return {one.name.removeprefix(f"{ROOT}.") for one in caplog.records if one.name.startswith(ROOT)}


def texts(caplog) -> str:
    return "\n".join(one.getMessage() for one in caplog.records if one.name.startswith(ROOT))


def use(side: Side, client) -> None:
    side(client.sync([], {}, cancel_key="k"))
    side(client.batch_sync_detailed([([], {})] * 3))
    side(client.async_call([], {}).get(10) if side.kind == "blocking" else _get(client))


async def _get(client):
    return await (await client.async_call([], {})).get(10)


def test_nothing_is_said_without_debug(side, caplog, monkeypatch):
    monkeypatch.setenv("SANDAI_OPERATOR_CLIENT_DETAILED_DEBUG", "1")
    with caplog.at_level(logging.DEBUG):
        use(side, side.client())
    assert loggers(caplog) == set()


def test_nothing_is_said_above_level_debug(side, caplog, capfd):
    with caplog.at_level(logging.INFO):
        use(side, side.client(debug=True))
    assert loggers(caplog) == set()
    assert capfd.readouterr() == ("", "")


def test_debug_tells_of_calls(side, caplog, capfd):
    with caplog.at_level(logging.DEBUG, ROOT):
        use(side, side.client(debug=True))
    assert loggers(caplog) == {"client"}
    assert "submitted to normal.video-clipper.v1" in texts(caplog)
    assert "batch of 3 tasks: 3 of 3 ended" in texts(caplog)
    assert capfd.readouterr() == ("", "")


def test_details_tell_of_slots_and_connections(side, caplog, monkeypatch):
    monkeypatch.setenv("SANDAI_OPERATOR_CLIENT_DETAILED_DEBUG", "1")
    with caplog.at_level(logging.DEBUG, ROOT):
        client = side.client(debug=True)
        use(side, client)
        side.close(client)
    transport = "transport" if side.kind == "blocking" else "async_transport"
    assert loggers(caplog) == {"client", transport, "shared_transport"}
    for said in (
        "acquire broker slot: 0 of 12",
        "release broker slot: ",
        "release backend slot: ",
        "backend slot: 0 of 6",
        "2 to go",
        "0 to go",
        "use broker",
        "release",
    ):
        assert said in texts(caplog)
    # Threads are named by logging itself.
    assert all(one.threadName for one in caplog.records)


def test_no_secret_is_said(side, caplog, monkeypatch):
    monkeypatch.setenv("SANDAI_OPERATOR_CLIENT_DETAILED_DEBUG", "1")
    with caplog.at_level(logging.DEBUG, ROOT):
        client = side.client(debug=True, broker_url="redis://:secret@127.0.0.1:1/0")
        assert side(client.ping(timeout=1)) is False
    assert "secret" not in texts(caplog)
