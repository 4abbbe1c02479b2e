"""``tranship move``."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from cli_kit import cli, fails, finish, ran, started, until
from move_kit import all_kinds, bury, envelope, everything, put, same

from tranship.operations import Operator
from tranship.testing.pytest_plugin import StartService

SOURCE, TARGET = "sqlite:///source.db", "sqlite:///target.db"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestMoving:
    def test_the_sum_is_shown(self) -> None:
        sent = all_kinds()
        asyncio.run(put(SOURCE, *sent))
        result = cli("move", SOURCE, TARGET, "--all")
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[-1] == "9 before = 9 moved + 0 left"
        same(asyncio.run(everything(TARGET, ["q", "other"])), sent)

    def test_json(self) -> None:
        asyncio.run(put(SOURCE, *all_kinds()))
        result = cli("move", SOURCE, TARGET, "-q", "q", "-q", "nothing", "--json")
        report = json.loads(result.stdout)
        assert (report["before"], report["moved"], report["left"], report["error"]) == (7, 7, 0, None)
        assert [queue["name"] for queue in report["queues"]] == ["q", "nothing"]
        assert "queue 'nothing' at" in report["warnings"][0]
        assert result.stderr == ""

    def test_a_name_that_is_mistyped(self) -> None:
        asyncio.run(put(SOURCE, envelope(1, queue="letters")))
        result = cli("move", SOURCE, TARGET, "-q", "leters")
        assert result.exit_code == 0
        assert "warning: queue 'leters' at" in result.stderr
        assert "did you mean 'letters'?" in result.stderr

    def test_a_dry_run(self) -> None:
        asyncio.run(put(SOURCE, *all_kinds()))
        result = cli("move", SOURCE, TARGET, "--all", "--dry-run")
        assert result.exit_code == 0
        assert "nothing was moved" in result.stdout
        assert json.loads(cli("move", SOURCE, TARGET, "--all", "-n", "--json").stdout)["before"] == 9

    def test_dead_letters(self) -> None:
        asyncio.run(bury(SOURCE, envelope(1)))
        assert json.loads(cli("move", SOURCE, TARGET, "--all", "--json").stdout)["dead_moved"] == 0
        result = cli("move", SOURCE, TARGET, "--all", "--dead-letters", "--json")
        assert json.loads(result.stdout)["dead_moved"] == 1
        with Operator(TARGET) as operator:
            assert operator.count_dead_letters("q") == 1

    def test_the_namespace_holds_for_both(self) -> None:
        asyncio.run(put(f"{SOURCE}?namespace=n", envelope(1)))
        assert json.loads(cli("move", SOURCE, TARGET, "--all", "--json").stdout)["moved"] == 0
        assert json.loads(cli("--namespace", "n", "move", SOURCE, TARGET, "--all", "--json").stdout)["moved"] == 1
        assert len(asyncio.run(everything(f"{TARGET}?namespace=n", ["q"]))) == 1

    def test_nothing_to_move(self) -> None:
        result = cli("move", SOURCE, TARGET, "--all")
        assert result.exit_code == 0
        assert "nothing to move" in result.stderr

    def test_refusals_are_listed(self) -> None:
        asyncio.run(put(SOURCE, large := envelope(1, kwargs={"x": "x" * 5000}), envelope(2)))
        result = cli("move", SOURCE, f"{TARGET}?max_message_size=4000", "--all")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-1] == "2 before = 1 moved + 1 left"
        assert f"not moved: task {large.id} of queue 'q'" in result.stderr
        assert "message_too_large" in result.stderr

    def test_many_refusals_are_not_all_listed(self) -> None:
        asyncio.run(put(SOURCE, *(envelope(number, kwargs={"x": "x" * 5000}) for number in range(150))))
        result = cli("move", SOURCE, f"{TARGET}?max_message_size=4000", "--all")
        told = [line for line in result.stderr.splitlines() if line.startswith("not moved: ")]
        assert told[5:] == ["not moved: 95 more of queue 'q' (message_too_large)", "not moved: 50 more"]


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "texts"),
        [
            ([SOURCE, TARGET], ["--queue or --all"]),
            ([SOURCE, TARGET, "--all", "-q", "q"], ["--queue or --all"]),
            ([SOURCE, TARGET, "--all", "-u", SOURCE], ["SOURCE and TARGET say where"]),
            ([SOURCE, SOURCE, "--all"], ["same broker and namespace"]),
            ([SOURCE, "sqlite:///./source.db", "--all"], ["same broker and namespace"]),
            ([SOURCE, "memory://", "--all"], ["cross-process"]),
            ([SOURCE, "nothing://", "--all"], ["nothing"]),
            ([SOURCE, "no url", "--all"], ["no url"]),
            ([SOURCE, TARGET, "--all", "--refused", "drop"], ["drop", "dead-letter"]),
            ([SOURCE, TARGET, "--all", "--limit", "0"], ["limit", "0"]),
            ([SOURCE, TARGET, "--all", "--patience", "-1"], ["patience"]),
        ],
    )
    def test_usage(self, arguments: list[str], texts: list[str]) -> None:
        asyncio.run(put(SOURCE, envelope(1)))
        fails(cli("move", *arguments), 2, *texts)
        assert len(asyncio.run(everything(SOURCE, ["q"]))) == 1

    def test_a_target_that_is_away(self) -> None:
        asyncio.run(put(SOURCE, envelope(1)))
        fails(cli("move", SOURCE, "redis://:secret@127.0.0.1:1/0", "--all"), 3, "127.0.0.1:1")

    def test_a_target_that_goes_away_for_good(self, directory: Path, tranship_own_service: StartService) -> None:
        pytest.importorskip("tranship_redis")
        asyncio.run(put(SOURCE, *(envelope(number) for number in range(20_000))))
        server = tranship_own_service("redis")
        arguments = ["move", SOURCE, server.url, "--all", "--patience", "1.5"]
        with started(arguments, directory) as process:
            until(lambda: count(server.url) > 1000)
            server.kill()
            code, _, err = finish(process)
        assert code == 3, err
        assert "away, waiting up to 1.5 s" in err
        assert "the same command goes on" in err
        server.start()
        said = ran(["move", SOURCE, server.url, "--all", "--json"], directory, timeout=60.0)[1]
        report = json.loads(said)
        assert report["left"] == 0
        assert len({one.id for one in asyncio.run(everything(server.url, ["q"]))}) == 20_000


class TestInterrupts:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_ends_in_order(self, directory: Path, number: signal.Signals) -> None:
        asyncio.run(put(SOURCE, *(envelope(one) for one in range(20_000))))
        with started(["move", SOURCE, TARGET, "--all", "--json"], directory) as process:
            until(lambda: count(TARGET) > 1000)
            process.send_signal(number)
            code, out, err = finish(process)
        assert code == 130, err
        report = json.loads(out)
        assert report["stopped"]
        assert report["by_others"] == 0
        assert report["moved"] == count(TARGET) < 20_000
        assert report["left"] == 20_000 - report["moved"]
        assert "The same command goes on" in err
        with Operator(SOURCE) as operator:
            assert [queue.in_flight for queue in operator.queues()] == [0], "something waits for the end of its lease"
        code, out, err = ran(["move", SOURCE, TARGET, "--all"], directory, timeout=60.0)
        assert code == 0, err
        assert count(TARGET) == 20_000


def count(url: str) -> int:
    with Operator(url) as operator:
        return sum(queue.backlog for queue in operator.queues())
