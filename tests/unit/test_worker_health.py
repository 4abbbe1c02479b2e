"""Health checks: what is answered, to whom, and what nobody can do to the worker with them."""

import asyncio
import http.client
import itertools
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import APP, finish, ran, started, until, url_of
from patience import until as aio_until

from tranship import Client, Worker, current, task
from tranship.envelope import Ending, Envelope
from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.testing.background import BackgroundWorker
from tranship.worker import _health
from tranship.worker._metrics import UNKNOWN, Metrics
from tranship.worker._record import Run

BROKERS = itertools.count(1)


@task(name="add")
async def add(a: int) -> int:
    return a + 1


@task(name="fail")
async def fail() -> None:
    raise ValueError("on purpose")


@task(name="block")
async def block(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - what must not be done


@task(name="hold")
def hold() -> None:
    current().wait_cancelled(30)


def make(**settings) -> Worker:
    """A worker with a broker of its own: what another was to give back when it ended would come to this one."""
    return Worker(f"memory://health-{next(BROKERS)}", tasks=[add, fail, block, hold], settings=None, **settings)


def client_of(worker: Worker) -> Client:
    return Client(str(worker.settings.broker_url))


def asked_for(worker: Worker, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    assert worker.health_port is not None
    with closing(http.client.HTTPConnection("127.0.0.1", worker.health_port, timeout=10)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def said_to(worker: Worker, data: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    assert worker.health_port is not None
    with socket.create_connection(("127.0.0.1", worker.health_port), timeout=10) as link:
        link.sendall(data)
        answer = b""
        try:
            while part := link.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("TRANSHIP_HEALTH_PORT", "0")
    with BackgroundWorker(make(shutdown_timeout=0.2)) as background:
        yield background.worker


class TestAnswers:
    def test_alive_and_ready(self, worker: Worker) -> None:
        for path in ("/live", "/health", "/live?verbose=1"):
            code, headers, body = asked_for(worker, path)
            assert (code, headers["Content-Type"], headers["Connection"]) == (200, "application/json", "close")
            assert json.loads(body) == {"live": True, "worker": worker.name}
        code, _, body = asked_for(worker, "/ready")
        assert (code, json.loads(body)) == (200, {"ready": True, "problem": None, "running": 0, "done": 0})

    def test_head_has_no_body(self, worker: Worker) -> None:
        code, headers, body = asked_for(worker, "/live", "HEAD")
        assert (code, body) == (200, "")
        assert int(headers["Content-Length"]) > 0

    def test_what_is_not_there_is_told_with_what_is(self, worker: Worker) -> None:
        code, _, body = asked_for(worker, "/nothing")
        assert (code, body) == (404, "there is /live /ready /metrics /health\n")
        code, headers, _ = asked_for(worker, "/live", "POST")
        assert (code, headers["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (b"hello\r\n\r\n", 400),
            (b"GET /live\r\n\r\n", 400),
            (b"GET live HTTP/1.1\r\n\r\n", 400),
            (b"get /live HTTP/1.1\r\n\r\n", 400),
            (b"GET /live HTTP/2.0\r\n\r\n", 400),
            (b"GET /li\x00ve HTTP/1.1\r\n\r\n", 400),
            (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", 400),
            (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n\r\n", 400),
            (b"GET /live HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
            (b"GET /live HTTP/1.0\r\n\r\n", 200),
        ],
    )
    def test_only_plain_requests_are_understood(self, worker: Worker, request_: bytes, code: int) -> None:
        answer = said_to(worker, request_)
        assert answer.startswith(f"HTTP/1.1 {code} ".encode()), answer

    def test_who_says_nothing_is_not_waited_for(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_health, "PATIENCE", 0.2)
        assert said_to(worker, b"GET /live HT") == b""
        assert said_to(worker, b"") == b""

    def test_connections_are_bounded_and_the_worker_goes_on(self, worker: Worker) -> None:
        assert worker.health_port is not None
        idle = [socket.create_connection(("127.0.0.1", worker.health_port), timeout=5) for _ in range(_health.MOST)]
        # The last of them has been accepted when another is turned away.
        until(lambda: said_to(worker, b"GET /live HTTP/1.1\r\n\r\n") == b"")
        with client_of(worker) as client:
            assert client.submit(add, 1).result(5) == 2
        for one in idle:
            one.close()
        until(lambda: said_to(worker, b"GET /live HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200"))

    def test_a_handler_that_blocks_keeps_nobody_waiting(self, worker: Worker) -> None:
        with client_of(worker) as client:
            handle = client.submit(block, 6.0)
            until(lambda: bool(worker.status().running))
            for path in ("/live", "/ready", "/metrics"):
                assert asked_for(worker, path)[0] == 200
            assert not handle.ready()
            handle.result(20)

    def test_one_that_stops_is_not_ready_and_then_nobody_answers(self, worker: Worker) -> None:
        with client_of(worker) as client:
            client.submit(hold)
            until(lambda: bool(worker.status().running))
            port = worker.health_port
            worker.settings = worker.settings.replace(shutdown_timeout=5.0)
            worker.stop()
            code, _, body = asked_for(worker, "/ready")
            until(lambda: not worker.status().ready)
            code, _, body = asked_for(worker, "/ready")
            assert (code, json.loads(body)["problem"]) == (503, "stopping")
            assert asked_for(worker, "/live")[0] == 200
            worker.stop(hurry=True)
            until(lambda: worker.health_port is None)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)


class TestPorts:
    def test_a_port_in_use_is_told_before_the_broker_is_asked_for_anything(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            # Nobody answers at this broker: it would be waited for.
            worker = Worker("redis://127.0.0.1:1/0", tasks=[add])
            with pytest.raises(ConfigurationError, match=rf"port {port} of '127\.0\.0\.1': Address already in use"):
                worker.run_with_health_check(port)
            assert worker.health_port is None

    def test_an_address_of_others_is_told(self) -> None:
        # Python 3.13 does not say why.
        why = "(Cannot assign requested address|could not bind on any address)"
        with pytest.raises(ConfigurationError, match=rf"of '192\.0\.2\.1': {why}"):
            make().run_with_health_check(0, host="192.0.2.1")
        with pytest.raises(ConfigurationError, match="health_host"):
            make().run_with_health_check(0, host="no such host.invalid")

    @pytest.mark.parametrize("port", [-1, 65_536, "http", True])
    def test_what_is_no_port_is_refused(self, port) -> None:
        with pytest.raises(InvalidOptionError, match="health_port"):
            make().run_with_health_check(port)

    def test_without_a_port_nobody_listens(self) -> None:
        with BackgroundWorker(make()) as background:
            assert background.worker.health_port is None

    async def test_waiting_for_the_broker_it_is_alive_and_not_ready(self) -> None:
        pytest.importorskip("tranship_redis")
        worker = Worker("redis://127.0.0.1:1/0", tasks=[add])
        worker.settings = worker.settings.replace(health_port=0)
        serving = asyncio.create_task(worker.serve())
        await aio_until(lambda: "waiting for the broker" in (worker.status().problem or ""), 10)
        code, _, body = await asyncio.to_thread(asked_for, worker, "/ready")
        assert code == 503
        assert "waiting for the broker" in json.loads(body)["problem"]
        assert (await asyncio.to_thread(asked_for, worker, "/live"))[0] == 200
        assert "tranship_worker_connected 0.0" in (await asyncio.to_thread(asked_for, worker, "/metrics"))[2]
        worker.stop()
        await serving


class TestMetrics:
    def test_what_has_ended_is_counted(self, worker: Worker, caplog) -> None:
        caplog.set_level(logging.ERROR)
        with client_of(worker) as client:
            for number in range(3):
                client.submit(add, number).result(5)
            client.submit(fail).wait(5)
            client.submit("nobody-knows-this", queue="default").wait(5)
            held = client.submit(hold)
            until(lambda: worker.status().running == [held.id])
            code, headers, text = asked_for(worker, "/metrics")
        assert (code, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        lines = text.splitlines()
        for line in (
            'tranship_tasks_total{task="add",outcome="succeeded"} 3',
            'tranship_tasks_total{task="fail",outcome="failed"} 1',
            'tranship_tasks_total{task="(unknown)",outcome="dead"} 1',
            'tranship_tasks_running{task="hold"} 1',
            'tranship_tasks_running{task="add"} 0',
            'tranship_task_duration_seconds_count{task="add"} 3',
            'tranship_task_duration_seconds_bucket{task="add",le="+Inf"} 3',
            "tranship_worker_ready 1.0",
            "tranship_worker_connected 1.0",
            "tranship_worker_slots 10.0",
        ):
            assert line in lines, text
        assert any(line.startswith(f'tranship_worker_info{{worker="{worker.name}"') for line in lines)
        heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(heads) == len(set(heads)), "each family once"
        assert "process_cpu_seconds_total" in heads

    def test_a_stranger_cannot_make_names_without_end(self) -> None:
        metrics = Metrics(["known"])
        for number in range(1000):
            run = Run(None, None)  # type: ignore[arg-type] - neither is looked at
            run.envelope = Envelope(id="i", task=f"made-up-{number}")
            run.end(Ending.DEAD)
            metrics.ended(run)
        text = metrics.text(labels={}, gauges={}, running=[])
        assert f'tranship_tasks_total{{task="{UNKNOWN}",outcome="dead"}} 1000' in text
        assert "made-up" not in text

    def test_labels_are_escaped(self) -> None:
        text = Metrics(['a"b\\c\nd\ud800']).text(labels={"worker": 'w"'}, gauges={}, running=[])
        assert 'task="a\\"b\\\\c\\nd\\\\ud800"' in text
        assert 'worker="w\\""' in text
        text.encode()

    def test_what_came_too_early_or_failed_in_the_worker_is_not_mistaken(self) -> None:
        metrics = Metrics(["t"])
        for broken in (False, True):
            run = Run(None, None)  # type: ignore[arg-type]
            run.envelope = Envelope(id="i", task="t")
            run.broken = broken
            run.end(Ending.SUCCEEDED if broken else Ending.RETRY)
            metrics.ended(run)
        text = metrics.text(labels={}, gauges={}, running=[])
        counted = [line for line in text.splitlines() if line.startswith("tranship_tasks_total{")]
        assert [line for line in counted if not line.endswith(" 0")] == [
            'tranship_tasks_total{task="t",outcome="broken"} 1'
        ]

    def test_every_outcome_is_there_before_the_first_event(self) -> None:
        """Prometheus sees no increase in a series that begins at 1: an alert would miss the first dead letter."""
        text = Metrics(["t"]).text(labels={}, gauges={}, running=[])
        outcomes = {one.value for one in Ending if one is not Ending.HELD} | {"broken"}
        for name in ("t", UNKNOWN):
            for outcome in outcomes:
                assert f'tranship_tasks_total{{task="{name}",outcome="{outcome}"}} 0\n' in text


class TestCommand:
    def test_the_port_is_answered_until_the_end(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with started(["worker", "app", "--health-port", str(port)], tmp_path) as process:

            def code() -> int | None:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                    try:
                        connection.request("GET", "/ready")
                        return connection.getresponse().status
                    except OSError:
                        return None

            until(lambda: code() == 200)
            process.terminate()
            ended, _, err = finish(process)
            assert ended == 0, err
            assert f"health checks are answered on http://127.0.0.1:{port}" in err

    def test_a_port_in_use_ends_it_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as taken, Client(url_of(tmp_path)) as client:
            waiting = client.submit("app.fact")
            code, out, err = ran(["worker", "app", "--health-port", str(taken.getsockname()[1])], tmp_path)
            assert (code, out) == (2, "")
            assert "error: health checks cannot be answered on port" in err
            assert "Traceback" not in err
            assert not waiting.ready()
