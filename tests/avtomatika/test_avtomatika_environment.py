"""The thirteen variables of the document, and those that the shipped package calls otherwise."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
import threading

import pytest
from avtomatika_kit import answer, ask

from tranship import Client
from tranship.compat.avtomatika import Worker, WorkerConfig
from tranship.errors import ConfigurationError, InvalidOptionError, InvalidURLError
from tranship.testing.background import BackgroundWorker


def made():
    worker = Worker()
    worker.task("work")(lambda: "done")
    return worker.worker()


def place(worker):
    return worker.settings.broker_url.reveal()


def test_orchestrator_url_is_a_broker_s(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_URL", "memory://one")
    assert place(made()) == "memory://one"


def test_without_it_tranship_s_own_setting_holds(monkeypatch):
    monkeypatch.setenv("TRANSHIP_BROKER_URL", "memory://own")
    assert place(made()) == "memory://own"


def test_orchestrators_config_goes_before_it(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_URL", "memory://one")
    monkeypatch.setenv(
        "ORCHESTRATORS_CONFIG", '[{"url": "memory://b", "priority": 2}, {"url": "memory://a", "priority": 1}]'
    )
    assert place(made()) == "failover://?1=memory://a&2=memory://b"
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", "[]")
    assert place(made()) == "memory://one"


@pytest.mark.parametrize(
    ("mode", "url"),
    [
        ("FAILOVER", "failover://?1=memory://b&2=memory://a"),
        ("WATERFALL", "failover://?1=memory://b&2=memory://a"),
        ("ROUND_ROBIN", "round-robin://?weights=100,1&1=memory://b&2=memory://a"),
    ],
)
def test_multi_orchestrator_mode(mode, url, monkeypatch):
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", '[{"url": "memory://b", "weight": 100}, {"url": "memory://a"}]')
    monkeypatch.setenv("MULTI_ORCHESTRATOR_MODE", mode)
    assert place(made()) == url


def test_worker_id_is_the_worker_s_name(url, monkeypatch):
    assert re.fullmatch(r"worker-[0-9a-f-]{36}", made().name)
    monkeypatch.setenv("WORKER_ID", "resizer-1")
    assert made().name == "resizer-1"
    monkeypatch.setenv("WORKER_ID", "not an id")
    with pytest.raises(InvalidOptionError, match="WORKER_ID is 'not an id'"):
        made()


def test_a_token_goes_where_the_url_has_a_place_for_it(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("ORCHESTRATOR_URL", "redis://:{WORKER_TOKEN}@host/0")
    with pytest.raises(InvalidOptionError, match="set WORKER_TOKEN or WORKER_INDIVIDUAL_TOKEN"):
        made()
    monkeypatch.setenv("WORKER_TOKEN", "all")
    assert made().settings.broker_url.password == "all"
    monkeypatch.setenv("WORKER_INDIVIDUAL_TOKEN", "m/n@e")
    assert made().settings.broker_url.password == "m/n@e"
    assert "m/n@e" not in repr(made())
    assert "is not used" not in caplog.text
    monkeypatch.setenv("ORCHESTRATOR_URL", "memory://one")
    made()
    assert "WORKER_TOKEN is not used" in caplog.text


@pytest.mark.parametrize("value", ["true", "false"])
def test_cancels_are_heard_with_websockets_or_without(value, url, client, monkeypatch):
    monkeypatch.setenv("WORKER_ENABLE_WEBSOCKETS", value)
    begun = threading.Event()
    worker = Worker()
    assert worker.config.ENABLE_WEBSOCKETS is (value == "true")

    @worker.task("endless")
    async def endless(params):
        begun.set()
        await asyncio.Event().wait()

    with BackgroundWorker(worker.worker()):
        handle = ask(client, "endless", {})
        assert begun.wait(20)
        handle.cancel()
        assert handle.wait(timeout=20).state == "CANCELLED"


def test_the_heartbeat_s_debounce(url, monkeypatch):
    assert made().settings.heartbeat_debounce == 0.1
    monkeypatch.setenv("WORKER_HEARTBEAT_DEBOUNCE_DELAY", "0.5")
    assert made().settings.heartbeat_debounce == 0.5


def test_the_directory_of_payloads(monkeypatch):
    assert WorkerConfig().TASK_FILES_DIR == "/tmp/payloads"
    monkeypatch.setenv("TASK_FILES_DIR", "/b")
    assert WorkerConfig().TASK_FILES_DIR == "/b"
    monkeypatch.setenv("WORKER_PAYLOAD_DIR", "/a")
    assert WorkerConfig().TASK_FILES_DIR == "/a"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"S3_ACCESS_KEY": "hush"}, "S3_SECRET_KEY is not set"),
        ({"S3_SECRET_KEY": "hush"}, "S3_ACCESS_KEY is not set"),
        ({"S3_ENDPOINT_URL": "minio:9000"}, "S3_ENDPOINT_URL cannot be used"),
        ({"S3_ENDPOINT_URL": "http://me:hush@minio:9000"}, "S3_ENDPOINT_URL cannot be used"),
        ({"S3_ENDPOINT_URL": "http://minio:9000", "S3_DEFAULT_BUCKET": "a/b"}, "S3_DEFAULT_BUCKET is 'a/b'"),
    ],
)
def test_what_is_wrong_about_s3_is_told_before_anything_is_consumed(values, why, url, monkeypatch):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidOptionError, match=why) as caught:
        made()
    assert "hush" not in str(caught.value)


def test_without_the_plugin_s3_says_what_to_install(url, monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://minio:9000")
    monkeypatch.delitem(sys.modules, "tranship.compat.avtomatika._payloads", raising=False)
    monkeypatch.setitem(sys.modules, "tranship_objectstore", None)
    with pytest.raises(ConfigurationError, match=r"pip install \./plugins/tranship-objectstore"):
        made()


def test_the_default_bucket_alone_asks_for_nothing(url, monkeypatch):
    assert WorkerConfig().S3_DEFAULT_BUCKET == "avtomatika-payloads"
    monkeypatch.setenv("S3_DEFAULT_BUCKET", "mine")
    made()


def test_other_variables_of_the_shipped_package(url, monkeypatch):
    for name, value in {
        "MAX_CONCURRENT_TASKS": "3",
        "HEARTBEAT_INTERVAL": "1.5",
        "WORKER_SHUTDOWN_TIMEOUT": "7",
        "WORKER_TYPE": "gpu",
    }.items():
        monkeypatch.setenv(name, value)
    settings = made().settings
    assert (settings.max_concurrent_tasks, settings.heartbeat_interval, settings.shutdown_timeout) == (3, 1.5, 7.0)
    assert Worker().worker_type == "gpu"
    assert Worker("own").worker_type == "own"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ORCHESTRATORS_CONFIG", "hush", "it is no JSON"),
        ("ORCHESTRATORS_CONFIG", '{"hush": 1}', "it is no list"),
        ("ORCHESTRATORS_CONFIG", '["hush"]', "no object with a url"),
        ("ORCHESTRATORS_CONFIG", '[{"url": "redis://hush@a", "wieght": 1}]', "'wieght', which means nothing"),
        ("ORCHESTRATORS_CONFIG", '[{"url": "redis://hush@a", "weight": "x"}]', "weight of an entry is 'x', no number"),
        ("ORCHESTRATORS_CONFIG", '[{"url": "http://a", "token": 1}]', "the token of an entry is no text"),
        ("MULTI_ORCHESTRATOR_MODE", "RANDOM", "expected one of FAILOVER, WATERFALL, ROUND_ROBIN"),
        ("WORKER_PORT", "99999", "expected a port"),
        ("WORKER_PORT", "http", "WORKER_PORT"),
        ("MAX_CONCURRENT_TASKS", "0", "MAX_CONCURRENT_TASKS"),
        ("WORKER_HEARTBEAT_DEBOUNCE_DELAY", "soon", "expected seconds above 0"),
        ("WORKER_HEARTBEAT_DEBOUNCE_DELAY", "-1", "WORKER_HEARTBEAT_DEBOUNCE_DELAY"),
    ],
)
def test_what_cannot_be_used_says_so(name, value, why, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidOptionError, match=re.escape(why)) as caught:
        WorkerConfig()
    assert name in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://hub:8080", "avtomatika+http://:m%2Fn%40e@hub:8080"),
        ("HTTPS://hub/behind?sts=true", "avtomatika+https://:m%2Fn%40e@hub/behind?sts=true"),
        ("http://:{WORKER_TOKEN}@hub", "avtomatika+http://:m%2Fn%40e@hub"),
        ("http://:own@hub", "avtomatika+http://:own@hub"),
    ],
)
def test_an_orchestrator_s_own_url_is_served_by_its_plugin(given, url, monkeypatch, caplog):
    monkeypatch.setenv("ORCHESTRATOR_URL", given)
    monkeypatch.setenv("WORKER_TOKEN", "m/n@e")
    assert place(made()) == url
    assert "is not used" not in caplog.text
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEY", "hush")
    monkeypatch.setenv("TLS_CA_PATH", "/ca.pem")
    options = made().settings.broker_url.options
    assert (options["secret_key"], options["ca_certs"]) == ("hush", "/ca.pem")
    assert "hush" not in repr(made())


def test_each_orchestrator_may_have_a_token_of_its_own(monkeypatch):
    listed = '[{"url": "http://a", "token": "one"}, {"url": "http://b"}]'
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", listed)
    monkeypatch.setenv("WORKER_TOKEN", "all")
    assert place(made()) == "failover://?1=avtomatika%2Bhttp://:one@a&2=avtomatika%2Bhttp://:all@b"


def test_a_websocket_s_url_says_what_is_expected(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_URL", "ws://hush@localhost:8080")
    with pytest.raises(InvalidURLError, match="begins with ws://; write http://") as caught:
        made()
    assert "hush" not in str(caught.value)


def test_a_url_that_is_listed_twice_is_refused(monkeypatch):
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", '[{"url": "memory://a"}, {"url": "memory://a"}]')
    with pytest.raises(InvalidURLError, match="has a URL twice"):
        made()


def test_the_command_runs_it_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tranship.compat.avtomatika import Worker\n"
        "worker = Worker()\n"
        "@worker.task('work')\n"
        "async def work(params, **kwargs):\n    return {'status': 'success', 'data': params}\n"
    )
    url = f"sqlite:///{tmp_path}/jobs.db"
    command = [sys.executable, "-m", "tranship", "worker", "mine:worker", "--url", url]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("consumes work" in line for line in iter(process.stderr.readline, ""))
            with Client(url) as client:
                assert answer(client, "work", {"a": 1}).value == {"a": 1}
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
