"""``tranship tasks --waiting`` and ``tranship purge``: what no worker has yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import cli, fails, url_of

from tranship import Client, named
from tranship.envelope import TaskState
from tranship.errors import TaskCancelled


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    with Client(url_of(tmp_path)) as client:
        yield client


def waiting(*arguments: str) -> list[dict[str, object]]:
    return json.loads(cli("tasks", "--waiting", "--json", *arguments).stdout)


def test_what_waits_is_shown_in_the_order_in_which_it_is_taken(client: Client) -> None:
    low, late = named("a.low").options(priority="low"), named("a.late").options(delay=600, cancel_key="k")
    handles = [client.submit(one, 1) for one in (low, late, named("a.first"), named("b.other").options(queue="other"))]
    found = waiting("--queue", "default")
    assert [one["id"] for one in found] == [handles[2].id, handles[0].id, handles[1].id]
    assert [one["state"] for one in found] == ["ready", "ready", "delayed"]
    assert (found[1]["priority"], found[2]["cancel_key"], found[0]["task"]) == ("low", "k", "a.first")
    assert {str(one["queue"]) for one in waiting()} == {"default", "other"}
    shown = cli("tasks", "--waiting", "--limit", "1")
    assert handles[2].id in shown.stdout
    assert "there may be more in default, other: --limit" in shown.stderr
    assert "nothing waits" in cli("tasks", "--waiting", "-q", "nobody").stderr


def test_tasks_that_wait_are_purged_by_id_or_all(client: Client) -> None:
    handles = [client.submit(named("a.one"), number) for number in range(3)]
    handles.append(client.submit(named("a.late").options(delay=600)))
    refused = cli("purge", "default", input="n\n")
    assert refused.exit_code == 1
    assert "Delete all 4 task(s) that wait in queue 'default'" in refused.stderr
    assert "nothing was deleted" in refused.stderr
    one = cli("purge", "default", handles[1].id, "--yes", "--json")
    assert json.loads(one.stdout) == {"purged": [handles[1].id]}
    with pytest.raises(TaskCancelled, match="purged from its queue"):
        handles[1].result(timeout=10)
    again = cli("purge", "default", handles[1].id, "--yes")
    assert (again.exit_code, again.stdout) == (1, "0 purged\n")
    assert "1 of the ids did not wait in queue 'default'" in again.stderr
    assert cli("purge", "default", input="y\n").stdout.endswith("3 purged\n")
    assert [str(handle.state()) for handle in handles] == [str(TaskState.CANCELLED)] * 4
    assert waiting() == []


def test_who_waits_at_another_store_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path / 'results.db'}"
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    monkeypatch.setenv("TRANSHIP_RESULT_URL", store)
    with Client(url_of(tmp_path), result_url=store) as client:
        handle = client.submit(named("a.one"), 1)
        assert cli("purge", "default", "--yes").stdout == "1 purged\n"
        with pytest.raises(TaskCancelled, match="purged from its queue"):
            handle.result(timeout=10)


def test_mistakes_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    fails(cli("purge"), 2, "QUEUE")
    fails(cli("tasks", "--waiting", "--limit", "0"), 2, "limit is 0")
