"""Routing without brokers: what is asked for, whose turn it is, when to try again, in what order to deliver."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.envelope import Priority
from tranship.errors import InvalidOptionError, InvalidURLError, PluginError
from tranship.ports import Capabilities, Capability, Delivery, Level, Support
from tranship.protocol import RawMessage
from tranship.registry import Registry
from tranship.routing import Circuit, RoutedBackend, RoutingOptions, failover, round_robin
from tranship.routing._balance import Turns, rank
from tranship.routing._breaker import Breaker
from tranship.routing._capabilities import together, unfit
from tranship.routing._letters import Cursor
from tranship.routing._merging import Part, hungry, merge
from tranship.routing._options import brokers_of
from tranship.settings import BackendConfig, BrokerURL, Settings


def brokers(text: str) -> tuple[str, list[str]]:
    url = BrokerURL.parse(text)
    return url.scheme, [one.reveal() for one in brokers_of(url, RoutingOptions.read(url))]


class TestAskingForSeveral:
    @pytest.mark.parametrize(
        "text",
        [
            "redis://a/0 redis://b/1",
            "  redis://a/0\n\tredis://b/1 ",
            "redis://a/0;redis://b/1",
            "redis://a/0 ; redis://b/1",
            "redis://a/0, redis://b/1",
            "failover:// redis://a/0 redis://b/1",
            "failover://?1=redis://a/0&2=redis://b/1",
            '["redis://a/0", "redis://b/1"]',
            '[{"url": "redis://a/0", "weight": 100}, {"url": "redis://b/1", "weight": 100}]',
            '{"brokers": ["redis://a/0", "redis://b/1"]}',
            '{"mode": "FAILOVER", "brokers": [{"url": "redis://a/0"}, {"url": "redis://b/1"}]}',
        ],
    )
    def test_one_for_another(self, text):
        assert brokers(text) == ("failover", ["redis://a/0", "redis://b/1"])

    @pytest.mark.parametrize(
        "text",
        [
            "round-robin://?weights=3,1 redis://a/0 redis://b/1",
            "round-robin://?weights=3,1&1=redis://a/0&2=redis://b/1",
            '{"mode": "ROUND_ROBIN", "brokers": [{"url": "redis://a/0", "weight": 3}, "redis://b/1"]}',
            '{"mode": "round-robin", "brokers": [{"url": "redis://a/0", "weight": 3}, "redis://b/1"]}',
        ],
    )
    def test_in_turn_with_weights(self, text):
        assert brokers(text) == ("round-robin", ["redis://a/0", "redis://b/1"])
        options = RoutingOptions.read(BrokerURL.parse(text))
        assert [options.weight(index) for index in range(2)] == [3.0, 1.0]

    def test_in_code(self):
        assert brokers(failover("redis://a/0", "redis://b/1")) == ("failover", ["redis://a/0", "redis://b/1"])
        url = BrokerURL.parse(round_robin("redis://a", weights={"redis://b": 2.5}, breaker_failures=7, lease=9))
        options = RoutingOptions.read(url)
        assert [options.weight(index) for index in range(2)] == [1.0, 2.5]
        assert options.breaker_failures == 7
        assert [one.options["lease"] for one in brokers_of(url, options)] == ["9", "9"]

    @pytest.mark.parametrize(
        ("make", "error", "says"),
        [
            (failover, InvalidURLError, "names no brokers"),
            (round_robin, InvalidURLError, "names no brokers"),
            (lambda: failover("memory://a", "memory://a"), InvalidURLError, "listed twice"),
            (lambda: round_robin("memory://a", weights={"memory://a": 2}), InvalidURLError, "listed twice"),
            (lambda: failover(["memory://a", "memory://b"]), InvalidURLError, "expected a text"),
            (lambda: failover("memory://a", weights={"memory://b": 2}), InvalidOptionError, "use round_robin"),
            (lambda: failover("memory://a", fail_back="soon"), InvalidOptionError, "fail_back is 'soon'"),
            (lambda: round_robin(weights={"memory://a": 0}), InvalidOptionError, "weights is 0; expected"),
            (lambda: round_robin(weights={"memory://a": "much"}), InvalidOptionError, "weights is 'much'"),
            (lambda: round_robin(weights=[3, 1]), InvalidOptionError, "expected a mapping"),
        ],
    )
    def test_mistakes_in_code_are_said_at_once(self, make, error, says):
        with pytest.raises(error, match=says):
            make()

    def test_in_the_environment_with_a_namespace(self):
        settings = Settings.load({"TRANSHIP_BROKER_URL": "redis://a/0?lease=5 redis://b/1", "TRANSHIP_NAMESPACE": "n"})
        url = settings.broker()
        assert [one.options for one in brokers_of(url, RoutingOptions.read(url))] == [
            {"lease": "5", "namespace": "n"},
            {"namespace": "n"},
        ]

    def test_in_a_file(self, tmp_path):
        (tmp_path / "tranship.toml").write_text('broker_url = ["redis://a/0", "redis://b/1"]')
        settings = Settings.load({}, directory=tmp_path)
        assert brokers(settings.broker_url.reveal()) == ("failover", ["redis://a/0", "redis://b/1"])

    @pytest.mark.parametrize("given", ["never", "none"])
    def test_never_going_back(self, given):
        assert RoutingOptions.read(BrokerURL.parse(f"failover://?fail_back={given}")).fail_back is None
        assert RoutingOptions.read(BrokerURL.parse(failover("memory://a", fail_back=None))).fail_back is None

    def test_secrets_stay_secret_and_survive(self):
        text = "redis://:sw0rd%20f1sh@a/0 redis://u:p%40ss@b/1?password=x%26y"
        url = BrokerURL.parse(text)
        assert not any(secret in str(url) + repr(url) for secret in ("sw0rd", "p%40ss", "p@ss", "x%26y", "x&y"))
        assert brokers(BrokerURL.parse(url.reveal()).reveal())[1] == [
            "redis://:sw0rd%20f1sh@a/0",
            "redis://u:p%40ss@b/1?password=x%26y",
        ]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[redis://a:secret@x]", "no JSON"),
            ("[]", "names no brokers"),
            ('{"mode": "FAILOVER"}', "names no brokers"),
            ('[{"weight": 2, "secret": 1}]', "neither a URL nor"),
            ('{"mode": "ALL", "brokers": ["redis://a"]}', "'ALL'.*unknown; use one of failover, round-robin"),
        ],
    )
    def test_what_cannot_be_read_says_why_without_secrets(self, text, says):
        with pytest.raises(InvalidURLError, match=says) as caught:
            BrokerURL.parse(text)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "error", "says"),
        [
            ("failover://", InvalidURLError, "names no brokers"),
            ("failover://host?1=memory://a", InvalidURLError, "belongs to one of its brokers"),
            ("memory://a memory://a", InvalidURLError, "listed twice"),
            ("round-robin://?weights=1 memory://a memory://b", InvalidOptionError, "2 numbers"),
            ("round-robin://?weights=1,0 memory://a memory://b", InvalidOptionError, "above 0"),
            ("round-robin://?weights=1,many memory://a memory://b", InvalidOptionError, "above 0"),
            ("failover://?breaker_failures=0 memory://a", InvalidOptionError, "breaker_failures"),
            ("failover://?unknown=guess memory://a", InvalidOptionError, "republish, tell"),
            ("failover://?leese=2 memory://a memory://b", InvalidOptionError, "'leese'.*did you mean lease"),
            ("failover://?fail_bak=2 memory://a memory://b", InvalidOptionError, "'fail_bak'.*did you mean fail_back"),
            (
                "failover://?brokers=2 memory://a",
                InvalidOptionError,
                "those of failover itself are: .*unknown_patience",
            ),
            ("memory://a?brokers=2 memory://b", InvalidOptionError, "'brokers' in memory://a.*known are: [a-z_, ]*$"),
            ("nats://a:4222,nats://b:4222", InvalidURLError, "between several URLs is a space"),
            ("redis://:secret@a/0,redis://b/0", InvalidURLError, "between several URLs is a space"),
        ],
    )
    def test_what_cannot_be_is_refused_before_it_opens(self, text, error, says):
        with pytest.raises(error, match=says):
            Registry(entry_points=False, environ={}).create(text)

    def test_without_a_registry_nothing_can_be_routed(self):
        with pytest.raises(PluginError, match="registry"):
            RoutedBackend(BackendConfig(BrokerURL.parse("failover://?1=memory://a"), lambda _key, create: create()))


class TestTurns:
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def test_shares_are_exact_in_each_cycle(self, weights):
        turns = Turns(dict(enumerate(weights)))
        there = list(range(len(weights)))
        for _ in range(3):
            assert Counter(turns.next(there) for _ in range(sum(weights))) == dict(enumerate(weights))

    def test_they_are_smooth(self):
        turns = Turns({"a": 5, "b": 1, "c": 1})
        assert "".join(turns.next("abc") for _ in range(7)) == "aabacaa"

    def test_who_was_away_is_not_flooded(self):
        turns = Turns({"a": 1, "b": 1})
        assert {turns.next(["a"]) for _ in range(100)} == {"a"}
        assert Counter(turns.next(["a", "b"]) for _ in range(20)) == {"a": 10, "b": 10}

    def test_keys_stay_and_follow_the_weights(self):
        places = {"a": ("redis://a", 3.0), "b": ("redis://b", 1.0), "c": ("redis://c", 1.0)}
        first = {f"key-{number}": rank(f"key-{number}", places) for number in range(2000)}
        assert Counter(order[0] for order in first.values())["a"] == pytest.approx(1200, abs=120)
        del places["b"]
        assert all(rank(key, places)[0] == order[0] for key, order in first.items() if order[0] != "b"), (
            "a key moved although its broker is there"
        )


class TestBreaker:
    def test_it_opens_after_failures_in_a_row(self):
        breaker = Breaker(3, 1.0, 8.0)
        assert [breaker.failed(0.0) for _ in range(2)] == [False, False]
        breaker.worked()
        assert [breaker.failed(5.0) for _ in range(3)] == [False, False, True]
        assert (breaker.state, breaker.opened_at) == (Circuit.OPEN, 5.0)

    def test_it_is_tried_less_often_and_afresh_after_it_closed(self):
        breaker = Breaker(1, 1.0, 5.0)
        breaker.trip(0.0)
        assert [breaker.pause() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
        breaker.probe()
        assert breaker.state is Circuit.HALF_OPEN
        assert breaker.trip(1.0) is False
        assert breaker.opened_at == 0.0
        breaker.close(2.0)
        assert (breaker.is_closed, breaker.opened_at, breaker.pause()) == (True, None, 1.0)

    def test_health_counts_from_the_last_return(self):
        breaker = Breaker(1, 1.0, 5.0)
        assert breaker.healthy_for(3.0) == float("inf")
        breaker.trip(3.0)
        assert breaker.healthy_for(9.0) == 0.0
        breaker.close(10.0)
        assert breaker.healthy_for(12.5) == 2.5


def delivery(level: Priority, queue: str = "q", count: int = 1) -> Delivery:
    return Delivery(RawMessage(b"{}", b""), queue, level, token=None, delivery_count=count)


def part(name: str, *levels: Priority, asked: int = 0, **more: object) -> Part:
    return Part(name, [delivery(one, **more) for one in levels], asked or len(levels))


HIGH, NORMAL, LOW, VERY_LOW = Priority


class TestMerging:
    @given(st.lists(st.lists(st.sampled_from(Priority), max_size=6), max_size=4), st.integers(1, 10))
    def test_the_best_come_and_nothing_is_lost(self, levels, limit):
        parts = [part(str(number), *sorted(one)) for number, one in enumerate(levels)]
        wanted, back = merge(parts, limit, {})
        everything = [one for each in parts for one in each.deliveries]
        assert {id(one) for _, one in [*wanted, *back]} == {id(one) for one in everything}
        assert [one.priority for _, one in wanted] == sorted(one.priority for one in everything)[:limit]

    def test_equals_alternate_and_the_neglected_queue_is_first(self):
        parts = [part("a", NORMAL, NORMAL, queue="busy"), part("b", NORMAL, queue="quiet")]
        assert [each.seat for each, _ in merge(parts, 3, {"busy": 1})[0]] == ["b", "a", "a"]
        assert [each.seat for each, _ in merge(parts, 3, {})[0]] == ["a", "b", "a"]

    def test_a_suspect_travels_alone(self):
        suspect, innocent = part("a", NORMAL, count=3), part("b", NORMAL, LOW)
        wanted, back = merge([suspect, innocent], 3, {})
        assert ([each.seat for each, _ in wanted], len(back)) == (["a"], 2)
        wanted, back = merge([innocent, suspect], 3, {})
        assert ([each.seat for each, _ in wanted], [each.seat for each, _ in back]) == (["b", "b"], ["a"])

    def test_who_may_have_better_ones_is_asked_again(self):
        full, rest = part("a", HIGH, HIGH), part("b", NORMAL, LOW)
        assert [(each.seat, count) for each, count in hungry([full, rest])] == [("a", 2)]
        assert hungry([part("a", HIGH, asked=2), rest]) == []
        assert hungry([part("a", LOW), part("b", NORMAL, asked=5)]) == []


class TestCapabilities:
    def test_the_weakest_counts(self):
        strong = Capabilities(dict.fromkeys(Capability, Level.NATIVE))
        weak = Capabilities(
            {
                **strong,
                Capability.DELAY: Support(Level.EMULATED, {"resolution": 5.0}),
                Capability.DURABLE: Level.NONE,
                Capability.DELIVERY_COUNT: Support(Level.NATIVE, {"kind": "at-least"}),
            }
        )
        both = together([strong, weak], in_turn=True, strict=False)
        assert both[Capability.DELAY] == Support(Level.EMULATED, {"resolution": 5.0})
        assert both[Capability.DELIVERY_COUNT].properties == {"kind": "at-least"}
        assert not both.has(Capability.DURABLE)
        assert not both.has(Capability.ORDERED)
        assert both[Capability.RETRY_SAFE].properties == {"among": "checked"}
        assert both[Capability.PRIORITY].properties == {"strict": "per-broker"}
        assert both[Capability.RESULT_PUSH].properties == {"with_submit": False}

    def test_results_come_in_one_way_or_not_at_all(self):
        keeps = Capabilities(dict.fromkeys(Capability, Level.NATIVE))
        pushes = Capabilities({**keeps, Capability.RESULTS: Level.NONE})
        assert not together([keeps, pushes], in_turn=True, strict=True).answers
        assert together([pushes, pushes], in_turn=True, strict=True).answers

    def test_failover_keeps_the_order_of_one_broker(self):
        strong = Capabilities(dict.fromkeys(Capability, Level.NATIVE))
        assert together([strong, strong], in_turn=False, strict=True)[Capability.ORDERED].level is Level.EMULATED

    def test_a_late_comer_must_have_what_others_rely_on(self):
        strong = Capabilities(dict.fromkeys(Capability, Level.NATIVE))
        weak = Capabilities({**strong, Capability.DURABLE: Level.NONE, Capability.CONTROL: Level.NONE})
        assert list(unfit(weak, strong)) == [Capability.CONTROL]


@pytest.mark.parametrize("text", ["", "abc", "1@x:y", json.dumps({"a": 1})])
def test_a_foreign_dead_letter_id_names_no_broker(text):
    assert Cursor.read(text) == Cursor(0, 0.0, text)
