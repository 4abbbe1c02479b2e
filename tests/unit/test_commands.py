"""Commands to workers that work: the command line, what travels, and who declares them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cli_kit import cli, fails, url_of

from tranship import Worker, task
from tranship.commanding import (
    BUILT_IN,
    CommandAnswer,
    CommandCall,
    CommandState,
    answer_message,
    answer_of,
    call_message,
    call_of,
)
from tranship.errors import InvalidArgumentsError, InvalidOptionError, UnsupportedError
from tranship.operations import AsyncOperator, Operator
from tranship.ports import Command
from tranship.testing.background import BackgroundWorker


@task(name="commands.nothing", queue="print", task_type="paper")
def nothing() -> None: ...


def greet(name: str = "you") -> str:
    return f"good day, {name}"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    return url_of(tmp_path)


@pytest.fixture
def worker(url: str) -> Iterator[Worker]:
    worker = Worker(url, tasks=[nothing], name="press-1", on_command={"greet": greet}, max_concurrent_tasks=2)
    with BackgroundWorker(worker):
        yield worker


def rows(*arguments: str) -> list[dict[str, Any]]:
    return json.loads(cli("control", *arguments, "--json").stdout)


class TestCommandLine:
    def test_what_is_answered_is_a_table(self, worker: Worker) -> None:
        shown = cli("control", "pause", "print")
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout.split("\n")[0].split() == ["worker", "state", "answer"]
        assert "press-1" in shown.stdout
        assert "takes from no queue; paused: print" in shown.stdout
        (resumed,) = rows("resume")
        assert (resumed["worker"], resumed["state"], resumed["value"]) == ("press-1", "done", "takes from print")
        assert rows("concurrency", "7")[0]["value"] == "runs 7 at once, instead of 2"
        assert rows("pause", "--type", "paper")[0]["value"] == "takes from print; paused types: paper"
        assert (
            rows("rate", "commands.nothing", "0.5")[0]["value"] == "starts commands.nothing 0.5 times a second at most"
        )
        assert rows("run-timeout", "commands.nothing", "9")[0]["value"] == "lets commands.nothing run 9 s at most"
        status = rows("status", "--worker", "press-1")[0]["value"]
        assert (status["concurrency"], status["paused_types"], status["commands"]) == (7, ["paper"], ["greet"])
        assert status["rates"] == {"commands.nothing": 0.5}
        assert len(status["changes"]) == 6
        assert "good day, Ann" in cli("control", "call", "greet", "-k", "name=Ann").stdout

    def test_nobody_has_done_it(self, worker: Worker) -> None:
        for arguments, text in (
            (["pause", "scan"], "does not consume queue 'scan'"),
            (["concurrency", "0"], "concurrency is 0"),
            (["call", "great"], "did you mean 'greet'?"),
        ):
            refused = cli("control", *arguments)
            assert (refused.exit_code, refused.stderr) == (1, "")
            assert text in refused.stdout
        silent = cli("control", "drain", "--worker", "press-2", "--timeout", "0.2")
        assert silent.exit_code == 1
        assert "silent" in silent.stdout
        assert "nobody has answered within 0.2 s" in silent.stderr
        assert worker.status().ready

    def test_nobody_is_there(self, url: str) -> None:
        empty = cli("control", "status", "--timeout", "0.1")
        assert (empty.exit_code, empty.stdout) == (1, "")
        assert "see `tranship workers`" in empty.stderr

    def test_mistakes_are_told(self, url: str) -> None:
        fails(cli("control", "concurrency", "many"), 2, "'N'")
        fails(cli("control", "status", "--timeout", "0"), 2, "--timeout")
        fails(cli("control", "call", "greet", "-k", "name"), 2, "name", "key=value")
        fails(cli("control", "call", "x" * 300), 2, "the name of a command")


class TestWhatTravels:
    def test_a_call_and_its_answer(self) -> None:
        call = CommandCall(id="1", name="load", arguments={"size": "A4", "é": [1, None]})
        sent = call_message(call, ["w"])
        assert sent.destination == ["w"]
        assert call_of(sent) == call
        answer = CommandAnswer(worker="w", instance="i", state=CommandState.DONE, value={"a": [1.5]})
        assert answer_of(answer_message("1", answer)) == ("1", answer)

    @pytest.mark.parametrize("value", [object(), "x" * 70_000])
    def test_what_cannot_be_sent_is_a_failure(self, value: Any) -> None:
        sent = answer_message("1", CommandAnswer(worker="w", state=CommandState.DONE, value=value))
        found = answer_of(sent)
        assert found is not None
        assert (found[1].state, found[1].value) == (CommandState.FAILED, None)
        assert found[1].error

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"id": 1, "command": "stop", "arguments": "{}"},
            {"id": "1", "command": "stop", "arguments": {}},
            {"id": "1", "command": "stop", "arguments": "[1]"},
            {"id": "1", "command": "stop", "arguments": "{"},
            {"id": "1", "command": "stop", "arguments": '{"a": "' + "x" * 70_000 + '"}'},
            {"id": "1", "command": "stop", "arguments": "[" * 60_000},
        ],
    )
    def test_garbage_is_no_call(self, arguments: dict[str, Any]) -> None:
        assert call_of(Command(name="call", arguments=arguments)) is None

    def test_garbage_is_no_answer(self) -> None:
        good = answer_message("1", CommandAnswer(worker="w", state=CommandState.DONE)).arguments
        assert call_of(Command(name="answer", arguments=good)) is None
        for name in good:
            assert answer_of(Command(name="answer", arguments={**good, name: 7})) is None
        assert answer_of(Command(name="answer", arguments={**good, "state": "perhaps"})) is None


class TestDeclaring:
    def test_a_decorated_function_is_one_and_stays_a_function(self) -> None:
        worker = Worker("memory://", tasks=[nothing])
        assert worker.on_command("greet")(greet) is greet
        url = f"memory://{uuid4().hex}"
        with BackgroundWorker(worker.replace(name="other", broker_url=_parsed(url))), Operator(url) as operator:
            assert [one.value for one in operator.command("greet")] == ["good day, you"]

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_names_of_ours_are_taken(self, name: str) -> None:
        with pytest.raises(InvalidOptionError, match="every worker has a command of that name"):
            Worker("memory://", tasks=[nothing], on_command={name: greet})

    @pytest.mark.parametrize("wrong", [[greet], {"greet": "hello"}, {"": greet}, {7: greet}, {"a\nb": greet}])
    def test_what_is_none_is_refused(self, wrong: Any) -> None:
        with pytest.raises(InvalidOptionError, match="on_command"):
            Worker("memory://", tasks=[nothing], on_command=wrong)

    def test_a_name_is_given_once(self) -> None:
        worker = Worker("memory://", tasks=[nothing], on_command={"greet": greet})
        with pytest.raises(InvalidOptionError, match="there is one of that name"):
            worker.on_command("greet")(greet)

    @pytest.mark.parametrize("workers", ["press-1", [], [7], [""]])
    def test_workers_are_names(self, workers: Any) -> None:
        with Operator("memory://") as operator, pytest.raises((InvalidArgumentsError, InvalidOptionError)):
            operator.command("status", workers=workers)


def test_a_broker_without_a_control_channel_says_so(tmp_path: Path) -> None:
    pytest.importorskip("tranship_kombu")
    with (
        Operator(
            f"kombu+filesystem://?transport.data_folder_in={tmp_path}&transport.data_folder_out={tmp_path}"
        ) as one,
        pytest.raises(UnsupportedError, match="no control channel"),
    ):
        one.command("status")


def test_a_worker_that_hears_a_command_from_each_of_several_brokers_obeys_once() -> None:
    url = f"memory://{uuid4().hex};memory://{uuid4().hex}"
    calls: list[int] = []
    worker = Worker(url, tasks=[nothing], name="w", on_command={"count": lambda: calls.append(1)})
    with BackgroundWorker(worker), Operator(url) as operator:
        states = [one.state for name in ("count", "status") for one in operator.command(name)]
    assert (states, calls) == ([CommandState.DONE, CommandState.DONE], [1])


async def test_a_function_that_blocks_the_loop_of_handlers_stops_no_other_command() -> None:
    url = f"memory://{uuid4().hex}"

    async def block() -> str:
        time.sleep(1.5)  # noqa: ASYNC251 - that is what it is about
        return "at last"

    def serve() -> BackgroundWorker:
        return BackgroundWorker(Worker(url, tasks=[nothing], name="w", on_command={"block": block}))

    with serve():
        async with AsyncOperator(url) as operator:
            blocked = asyncio.create_task(operator.command("block", workers=["w"], timeout=20))
            states = [one.state for one in await operator.command("status", workers=["w"], timeout=20)]
            assert states == [CommandState.DONE]
            assert [one.value for one in await blocked] == ["at last"]


def test_more_than_ten_functions_at_once_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    import threading

    url, gate = f"memory://{uuid4().hex}", threading.Event()
    worker = Worker(url, tasks=[nothing], name="w", on_command={"wait": lambda: gate.wait(30)})

    async def all_of(operator: AsyncOperator) -> list[CommandAnswer]:
        # By name: who has not yet been told of as a worker would be waited for to the end.
        calls = [operator.command("wait", workers=["w"], timeout=20) for _ in range(12)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        answers = await asyncio.gather(*waiting)
        assert done
        return [one for several in answers for one in several]

    async def run() -> list[CommandAnswer]:
        async with AsyncOperator(url) as operator:
            return await all_of(operator)

    with caplog.at_level(logging.WARNING, "tranship.worker"), BackgroundWorker(worker):
        states = sorted(one.state for one in asyncio.run(run()))
    assert states == [CommandState.DONE] * 10 + [CommandState.REFUSED] * 2


def _parsed(url: str) -> Any:
    from tranship.settings import BrokerURL

    return BrokerURL.parse(url)
