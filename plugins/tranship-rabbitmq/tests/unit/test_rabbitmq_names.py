"""Which queue a level is, both ways; names that the server cannot have are refused; options and URLs."""

from __future__ import annotations

import pytest

from tranship.envelope import Priority
from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.settings import BrokerURL
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions, places


def names(**options) -> Names:
    return Names(RabbitOptions(**options))


def test_normal_is_the_plain_name_that_celery_reads():
    assert names().place("media", Priority.NORMAL) == ("media", 0)
    assert names(namespace="shop").place("media", Priority.NORMAL) == ("shop:media", 0)


def test_levels_are_served_from_the_top_over_all_queues():
    order = [(one.name, one.priority) for one in names().physical(["a", "b"])]
    assert order[:4] == [
        ("a~high", Priority.HIGH),
        ("b~high", Priority.HIGH),
        ("a", Priority.NORMAL),
        ("b", Priority.NORMAL),
    ]
    assert len(order) == 8


def test_the_level_of_each_number_that_celery_may_give():
    assert [one.label for one in names(max_priority=10).levels_by_number] == [
        *["very_low"] * 3,
        *["low"] * 4,
        *["normal"] * 3,
        "high",
    ]
    assert names().levels_by_number == [Priority.NORMAL]


@pytest.mark.parametrize("top", [3, 9, 10, 255])
def test_with_max_priority_levels_are_numbers_in_the_one_queue(top):
    found = names(max_priority=top)
    (physical,) = found.physical(["q"])
    numbers = [found.place("q", level)[1] for level in Priority]
    assert numbers == sorted(set(numbers), reverse=True)
    assert numbers[0] == top
    for level in Priority:
        assert found.level(physical, found.place("q", level)[1]) is level
    # A Celery client that says nothing has number 0.
    assert found.level(physical, None) is Priority.VERY_LOW


@pytest.mark.parametrize("queue", ["", "amq.direct", "a\0b", "two\nlines", "a\r", "x" * 231, "\ud800"])
def test_names_the_server_cannot_have_are_refused(queue):
    with pytest.raises(InvalidOptionError, match="queue"):
        names().place(queue, Priority.NORMAL)


@pytest.mark.parametrize(
    ("url", "vhost"),
    [("amqp://h", "/"), ("amqp://h/", "/"), ("amqp://h//", "/"), ("amqp://h/shop", "shop"), ("amqp://h/%2Fx", "/x")],
)
def test_virtual_hosts_are_read_as_celery_reads_them(url, vhost):
    (place,) = places(BrokerURL.parse(url), RabbitOptions())
    assert (place.vhost, place.port, place.username) == (vhost, 5672, "guest")


def test_several_servers_and_no_password_in_sight():
    found = places(BrokerURL.parse("amqps://me:sw0rdf1sh@one,two:5699/v"), RabbitOptions())
    assert [(place.host, place.port) for place in found] == [("one", 5671), ("two", 5699)]
    assert "sw0rdf1sh" not in repr(found)


@pytest.mark.parametrize(
    "options",
    [
        {"max_priority": 2},
        {"max_priority": 300},
        {"max_priority": 10, "queue_type": "quorum"},
        {"heartbeat": -1},
        {"consumer_timeout": 0.0},
        {"queue_type": "stream"},
    ],
)
def test_options_outside_what_is_allowed(options):
    with pytest.raises(InvalidOptionError):
        RabbitOptions(**options)


def test_certificates_that_cannot_be_read_are_named():
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca\.pem"):
        places(BrokerURL.parse("amqps://h"), RabbitOptions(ca_certs="/nowhere/ca.pem"))
