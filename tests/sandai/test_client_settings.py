"""Where a client's settings come from, and what becomes of URLs as Celery's users write them."""

from __future__ import annotations

import pytest

from tranship.compat.sandai import AsyncOperatorClient, OperatorClient
from tranship.compat.sandai._urls import operator_url
from tranship.errors import InvalidOptionError
from tranship.settings import BrokerURL

VARIABLES = [
    # name, argument, a text, its value, another text, its value, the default
    (
        "CELERY_BROKER_URL",
        "broker_url",
        "redis://a/1",
        "redis://a/1",
        "redis://b/2",
        "redis://b/2",
        "redis://localhost:6379/0",
    ),
    (
        "CELERY_RESULT_BACKEND",
        "result_backend",
        "redis://a/1",
        "redis://a/1",
        "redis://b/2",
        "redis://b/2",
        "redis://localhost:6379/0",
    ),
    ("CELERY_TASK_SERIALIZER", "task_serializer", "json", "json", "msgpack", "msgpack", "msgpack"),
    ("CELERY_RESULT_SERIALIZER", "result_serializer", "msgpack", "msgpack", "json", "json", "json"),
    ("AUTO_FORGET_RESULT", "auto_forget_result", "no", False, "1", True, True),
    ("BROKER_POOL_LIMIT", "broker_pool_limit", "3", 3, "4", 4, 12),
    ("BACKEND_POOL_LIMIT", "backend_pool_limit", "3", 3, "4", 4, 12),
    ("BACKEND_POLL_CONCURRENCY", "backend_poll_concurrency", "3", 3, "4", 4, 6),
    ("POOL_ACQUIRE_TIMEOUT", "pool_acquire_timeout", "1.5", 1.5, "2", 2.0, 10.0),
    ("SHARED_TRANSPORT_SCOPE", "shared_transport_scope", "process", "process", "operator", "operator", "operator"),
    ("CLIENT_DETAILED_DEBUG", "detailed_debug", "1", True, "off", False, False),
    ("TRACING_ENABLED", "tracing", "true", True, "0", False, False),
]
NOT_ARGUMENTS = ("detailed_debug", "tracing")


@pytest.fixture(params=[OperatorClient, AsyncOperatorClient])
def make(request):
    return lambda **arguments: request.param("video-clipper", "v1", **arguments)._config


@pytest.mark.parametrize("row", VARIABLES, ids=[row[0] for row in VARIABLES])
def test_argument_before_ours_before_theirs_before_default(make, monkeypatch, row):
    name, argument, one, one_value, other, other_value, default = row
    assert getattr(make(), argument) == default
    monkeypatch.setenv(f"SANDAI_OPERATOR_{name}", one)
    assert getattr(make(), argument) == one_value
    monkeypatch.setenv(f"TRANSHIP_OPERATOR_{name}", other)
    assert getattr(make(), argument) == other_value
    # An empty variable is one that is not set.
    monkeypatch.setenv(f"TRANSHIP_OPERATOR_{name}", "")
    assert getattr(make(), argument) == one_value
    if argument not in NOT_ARGUMENTS:
        assert getattr(make(**{argument: other_value}), argument) == other_value


def test_each_setting_is_looked_for_by_itself(make, monkeypatch):
    # A URL among the arguments takes nothing from the environment's other settings, but brings its results along.
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_TASK_SERIALIZER", "json")
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_RESULT_BACKEND", "redis://results/3")
    config = make(broker_url="redis://b/2")
    assert (config.task_serializer, config.result_backend) == ("json", "redis://b/2")


def test_results_are_at_the_broker_unless_told_otherwise(make, monkeypatch):
    assert make(broker_url="redis://b/2").result_backend == "redis://b/2"
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_BROKER_URL", "redis://e/1")
    assert make().result_backend == "redis://e/1"
    config = make(broker_url="amqp://b//", result_backend="rpc://")
    assert str(config.results) == str(config.broker) == "amqp://b//"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BROKER_POOL_LIMIT", "many"),
        ("AUTO_FORGET_RESULT", "perhaps"),
        ("POOL_ACQUIRE_TIMEOUT", "-1"),
        ("SHARED_TRANSPORT_SCOPE", "x"),
    ],
)
def test_a_variable_that_cannot_be_read(make, monkeypatch, name, text):
    monkeypatch.setenv(f"TRANSHIP_OPERATOR_{name}", text)
    with pytest.raises(InvalidOptionError, match=rf"{name}|{name.lower()}"):
        make()


@pytest.mark.parametrize(
    ("name", "text", "option", "value"),
    [
        ("BROKER_POOL_LIMIT", "many", "broker_pool_limit", 12),
        ("BROKER_POOL_LIMIT", " 7 ", "broker_pool_limit", 7),
        ("BROKER_POOL_LIMIT", "-3", "broker_pool_limit", 1),
        ("BROKER_POOL_LIMIT", " ", "broker_pool_limit", 12),
        ("AUTO_FORGET_RESULT", "perhaps", "auto_forget_result", False),
        ("AUTO_FORGET_RESULT", "", "auto_forget_result", False),
        ("AUTO_FORGET_RESULT", " ON ", "auto_forget_result", True),
        ("POOL_ACQUIRE_TIMEOUT", "-1", "pool_acquire_timeout", 0.0),
        ("POOL_ACQUIRE_TIMEOUT", "soon", "pool_acquire_timeout", 10.0),
        ("SHARED_TRANSPORT_SCOPE", "x", "shared_transport_scope", "operator"),
        ("CELERY_BROKER_URL", "", "broker_url", "redis://localhost:6379/0"),
    ],
)
def test_a_variable_of_the_package_is_read_as_the_package_reads_it(make, monkeypatch, name, text, option, value):
    monkeypatch.setenv(f"SANDAI_OPERATOR_{name}", text)
    assert getattr(make(), option) == value


def test_the_older_names_of_the_limits(make, monkeypatch):
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_BROKER_POOL_LIMIT", "5")
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_RESULT_BACKEND_MAX_CONNECTIONS", "4")
    assert (make().broker_pool_limit, make().backend_pool_limit) == (5, 4)
    monkeypatch.setenv("SANDAI_OPERATOR_BROKER_POOL_LIMIT", "3")
    monkeypatch.setenv("SANDAI_OPERATOR_BACKEND_POOL_LIMIT", "2")
    assert (make().broker_pool_limit, make().backend_pool_limit) == (3, 2)


def test_defaults(make):
    config = make()
    assert (config.timeout, config.priority, config.cancel_key, config.debug) == (3600, "normal", None, False)
    assert config.backend_slots == 6
    assert make(backend_pool_limit=2).backend_slots == 2
    assert make(result_backend_max_connections=3).backend_pool_limit == 3
    assert make(result_backend_max_connections=3, backend_pool_limit=5).backend_pool_limit == 5
    assert make(broker_pool_limit=0).broker_pool_limit == 1
    assert make(thread_safe_mode=False).timeout == make(timeout=None).timeout == 3600


def test_what_a_client_shows(make, monkeypatch):
    for kind in (OperatorClient, AsyncOperatorClient):
        client = kind("video-clipper", "v1", "redis://:secret@h:1/0", "redis://:hidden@h:1/1", 7, True, "low", "key")
        assert "secret" not in repr(client)
        assert "hidden" not in repr(client)
        assert (client.broker_url, client.result_backend) == ("redis://:secret@h:1/0", "redis://:hidden@h:1/1")
        assert (client.timeout, client.debug, client.priority, client.cancel_key) == (7, True, "low", "key")
        assert client.task_name == "sandai_operator.video-clipper.v1.process_task"
        assert client.queue_names == client.get_queue_info()
        assert client.valid_priorities == ["high", "normal", "low", "very_low"]
        assert client.auto_forget_result is True
        assert (client.operator_name, client.operator_version) == ("video-clipper", "v1")


@pytest.mark.parametrize(
    ("text", "scheme", "options"),
    [
        ("redis://h/0", "redis", {}),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss", {"cert_reqs": "none"}),
        (
            "rediss://h/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
            "rediss",
            {"cert_reqs": "required", "ca_certs": "/ca.pem"},
        ),
        ("redis://h/0?socket_timeout=3&health_check_interval=0", "redis", {"command_timeout": "3"}),
        ("redis://h/0?health_check_interval=9&max_connections=4", "redis", {"keepalive": "9"}),
        ("redis://h/0?normal_step=3", "redis", {"normal_step": "3"}),
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix", {"db": "2"}),
    ],
)
def test_urls_of_redis(text, scheme, options):
    url = operator_url(text)
    assert url.scheme == scheme
    assert dict(url.options) == {"normal_step": "0", "cancel_template": "{key}", **options}


def test_urls_of_other_brokers():
    assert str(operator_url("pyamqp://h:5672//")) == "amqp://h:5672//"
    for same in ("amqp://h/v", "nats://h:4222", "sqlite:///jobs.db", "memory://x"):
        assert str(operator_url(same)) == same


def test_an_option_under_both_of_its_names():
    with pytest.raises(InvalidOptionError, match="cert_reqs"):
        operator_url("rediss://h/0?ssl_cert_reqs=none&cert_reqs=none")


def test_of_several_brokers_each_is_a_peer_of_operators():
    url = operator_url("round-robin://?weights=3,1 redis://:p%40ss@a/0?socket_timeout=3 pyamqp://b//")
    assert (url.scheme, url.options["weights"]) == ("round-robin", "3,1")
    redis, rabbit = (BrokerURL.parse(url.options[number]) for number in "12")
    assert (redis.host, redis.password) == ("a", "p@ss")
    assert dict(redis.options) == {"normal_step": "0", "cancel_template": "{key}", "command_timeout": "3"}
    assert (rabbit.scheme, rabbit.host) == ("amqp", "b")
    assert "p@ss" not in str(url)
