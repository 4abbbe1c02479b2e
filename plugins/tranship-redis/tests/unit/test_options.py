"""The URL's options: what is taken, what is refused and how the refusal reads."""

from typing import Any

import pytest

from tranship.errors import InvalidOptionError, InvalidURLError
from tranship.settings import BrokerURL
from tranship_redis._options import RedisOptions, database


def read(query: str, path: str = "/0") -> RedisOptions:
    return BrokerURL.parse(f"redis://localhost{path}?{query}").options_as(RedisOptions)


def test_the_defaults() -> None:
    options = read("")

    assert (options.connect_timeout, options.command_timeout, options.keepalive) == (5.0, 10.0, 5.0)
    assert (options.protocol, options.tracking, options.celery, options.normal_step) == (3, "auto", "auto", 3)
    assert (options.visibility_timeout, options.result_serializer, options.cancel_template) == (3600.0, "json", "")
    assert (options.cert_reqs, options.check_hostname, options.client_name, options.prefix) == (
        "required",
        True,
        "",
        "",
    )


def test_a_query_is_read() -> None:
    options = read("protocol=2&normal-step=0&tracking=off&celery=a,b&namespace=shop&check_hostname=no&db=4", "")

    assert (options.protocol, options.normal_step, options.tracking) == (2, 0, "off")
    assert (options.prefix, options.check_hostname, options.db) == ("shop:", False, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connect_timeout", 0),
        ("command_timeout", -1),
        ("keepalive", 0),
        ("visibility_timeout", 0),
        ("protocol", 4),
        ("tracking", "on"),
        ("normal_step", 6),
        ("result_serializer", "pickle"),
        ("cert_reqs", "maybe"),
        ("celery", ""),
        ("db", -1),
        ("cancel_template", "no-placeholder"),
        ("client_name", "two words"),
        ("namespace", "a\0b"),
        ("lease", 0),
    ],
)
def test_a_value_outside_what_is_allowed_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=name):
        RedisOptions(**{name: value})


def test_which_queues_have_celery_peers() -> None:
    assert [read(f"celery={mode}").celery_queues.of("q") for mode in ("auto", "on", "off")] == [None, True, False]

    some = read("celery=a,%20b,").celery_queues
    assert [some.of(name) for name in ("a", "b", "c")] == [True, True, False]


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("redis://h", 0),
        ("redis://h/", 0),
        ("redis://h/7", 7),
        ("redis://h?db=5", 5),
        ("redis://h/5?db=5", 5),
        ("unix:///run/redis.sock", 0),
        ("unix:///run/redis.sock?db=3", 3),
    ],
)
def test_the_database(url: str, number: int) -> None:
    broker = BrokerURL.parse(url)

    assert database(broker, broker.options_as(RedisOptions)) == number


@pytest.mark.parametrize("url", ["redis://h/x", "redis://h/1/2", "redis://h/-1", "redis://h/²", "redis://h/1?db=2"])
def test_a_database_that_is_none(url: str) -> None:
    broker = BrokerURL.parse(url)

    with pytest.raises(InvalidURLError, match="database"):
        database(broker, broker.options_as(RedisOptions))
