"""Limits by key: what `@task` takes, the line of one key by itself, and lines whose store or broker fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tranship import task
from tranship.clocks import Clock
from tranship.envelope import Envelope, Receipt, TaskState
from tranship.errors import (
    BrokerUnreachable,
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    MalformedMessage,
    MessageTooLarge,
    TranshipError,
)
from tranship.limits import Lines
from tranship.limits._line import LEASE, LOST, Granted, Line, Standing
from tranship.ports import Backend, Record, records_of
from tranship.protocol import Encoder, Message, Place, decode_result, place_of
from tranship.registry import Registry
from tranship.task import Limits

NOW = 1_000_000.0


def limits_of(**given: Any) -> Limits:
    @task(name="pay", **given)
    def pay(account: str, amount: int = 1) -> None: ...

    assert pay.limits is not None
    return pay.limits


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "option"),
        [
            ({"limit": 0}, "limit"),
            ({"limit": -1}, "limit"),
            ({"limit": 1.5}, "limit"),
            ({"limit": 10_001}, "limit"),
            ({"rate": 0}, "rate"),
            ({"rate": "10/y"}, "rate"),
            ({"rate": "fast"}, "rate"),
            ({"rate": float("inf")}, "rate"),
            ({"rate": 1, "burst": 0}, "burst"),
            ({"limit": 1, "burst": 2}, "burst"),
            ({"ordered": "yes"}, "ordered"),
            ({"ordered": True, "limit": 2}, "ordered"),
            ({"key": lambda account: account}, "key"),
            ({"rate": 1, "fair": lambda account: account}, "fair"),
            ({"ordered": True, "fair": lambda account: account}, "fair"),
            ({"limit": 1, "key": "account"}, "key"),
        ],
    )
    def test_what_makes_no_sense_is_refused_where_it_is_written(self, given: dict[str, Any], option: str) -> None:
        with pytest.raises(InvalidOptionError, match=option):
            limits_of(**given)

    def test_a_key_asks_for_arguments_that_the_task_has(self) -> None:
        with pytest.raises(ConfigurationError, match=r"asks for 'tenant'.*it has: account, amount"):
            limits_of(limit=1, key=lambda tenant: tenant)

    def test_a_rate_is_a_number_or_a_text(self) -> None:
        rates = [limits_of(rate=rate).per_second for rate in (2, 0.5, "10/s", " 90 / m ", "1.5/h", "86400/d")]
        assert rates == pytest.approx([2, 0.5, 10, 1.5, 1.5 / 3600, 1])

    def test_a_key_sees_defaults_and_what_it_asks_for(self) -> None:
        limits = limits_of(limit=1, key=lambda amount: f"of {amount}", fair=lambda **all_of_them: ",".join(all_of_them))
        assert limits.place("pay", ["acme"], {}) == Place("of 1", "account,amount")

    @pytest.mark.parametrize("answer", [None, 5, b"acme", "x" * 501, "\ud800"])
    def test_a_key_is_a_text(self, answer: Any) -> None:
        with pytest.raises(InvalidArgumentsError, match=r"key of task .*it was given account"):
            limits_of(limit=1, key=lambda account: answer).place("pay", ["acme"], {})

    def test_a_key_that_raises_is_an_error_of_the_call(self) -> None:
        with pytest.raises(InvalidArgumentsError, match="raised KeyError") as caught:
            limits_of(limit=1, key=lambda account: {}[account]).place("pay", ["acme"], {})
        assert isinstance(caught.value.__cause__, KeyError)


def line_of(**shares: int) -> Line:
    """A line in which so many tasks of each share wait, each in a block of its own."""
    line = Line()
    for share, count in shares.items():
        assert line.append(share, f"part-{share}", 0, count, NOW)
    return line


def granted(line: Line, limits: Limits, now: float = NOW) -> list[Granted]:
    return line.grant(limits, now, lambda part, block: 1)


def begin(line: Line, one: Granted, limits: Limits, token: str = "w", now: float = NOW) -> str:
    return line.claim(Place("", *one), token, now, limits).standing


class TestLine:
    def test_no_more_than_the_limit_have_a_slot(self) -> None:
        line, limits = line_of(a=5), limits_of(limit=2)
        first = granted(line, limits)
        assert [one.block for one in first] == [0, 1]
        assert granted(line, limits) == []
        line.leave(Place("", *first[1]), "", NOW)
        assert [one.block for one in granted(line, limits)] == [2]

    def test_a_limit_that_is_lowered_stops_nothing_and_hands_nothing_on_until_fewer_run(self) -> None:
        line = line_of(a=9)
        running = granted(line, limits_of(limit=3))
        assert [begin(line, one, limits_of(limit=1)) for one in running] == [Standing.ITS_TURN] * 3
        for one in running[:2]:
            line.leave(Place("", *one), "w", NOW)
            assert granted(line, limits_of(limit=1)) == []
        line.leave(Place("", *running[2]), "w", NOW)
        assert [one.block for one in granted(line, limits_of(limit=1))] == [3]

    def test_a_slot_goes_to_the_share_that_has_the_fewest(self) -> None:
        line, limits = line_of(big=100, small=2), limits_of(limit=4, fair=lambda account: account)
        assert [one.share for one in granted(line, limits)] == ["big", "small", "big", "small"]
        line = line_of(big=100)
        granted(line, limits)
        line.append("small", "part-small", 0, 1, NOW)
        line.leave(Place("", "big", "part-big", 0, 0), "", NOW)
        assert [one.share for one in granted(line, limits)] == ["small"]

    def test_a_rate_lets_a_burst_start_and_then_one_after_the_other(self) -> None:
        line, limits = line_of(a=4), limits_of(rate=0.1, burst=2)
        claims = [line.claim(Place("", *one), "w", NOW, limits) for one in granted(line, limits)]
        assert [one.standing for one in claims] == [Standing.ITS_TURN] * 2
        (third, *_) = granted(line, limits)
        early = line.claim(Place("", *third), "w", NOW, limits)
        assert early == (Standing.EARLY, NOW + 10)
        assert begin(line, third, limits, now=NOW + 10) == Standing.ITS_TURN

    def test_a_slot_is_somebodys_until_its_lease_is_over(self) -> None:
        line, limits = line_of(a=1), limits_of(limit=1)
        (one,) = granted(line, limits)
        assert begin(line, one, limits, "first") == Standing.ITS_TURN
        assert begin(line, one, limits, "second") == Standing.BUSY
        assert line.renew(Place("", *one), "first", NOW + LEASE - 1)
        assert begin(line, one, limits, "second", NOW + LEASE + 1) == Standing.BUSY
        assert begin(line, one, limits, "second", NOW + 2 * LEASE) == Standing.RESUMED
        assert not line.renew(Place("", *one), "first", NOW + 2 * LEASE)
        line.leave(Place("", *one), "first", NOW + 2 * LEASE)
        assert line.slots, "who has lost it frees nothing"

    def test_a_copy_of_what_has_ended_is_over(self) -> None:
        line, limits = line_of(a=2), limits_of(limit=1)
        (one,) = granted(line, limits)
        line.leave(Place("", *one), "", NOW)
        assert begin(line, one, limits) == Standing.OVER
        assert line.claim(Place("", "a", "another", 0, 0), "w", NOW, limits).standing == Standing.UNKNOWN

    def test_what_nobody_takes_is_asked_for_later_and_later(self) -> None:
        line, limits, now = line_of(a=1), limits_of(limit=1), NOW
        (one,) = granted(line, limits)
        assert begin(line, one, limits) == Standing.ITS_TURN
        comes_again, pauses = [], []
        for _ in range(LOST + 2):
            before, now = now, line.slots[one[1:]].until + 1
            pauses.append(now - before)
            (found,) = line.overdue(now)
            assert found.granted == one
            comes_again.append(found.comes_again)
        assert comes_again == [True] * LOST + [False] * 2
        assert pauses == sorted(pauses)

    def test_a_part_that_was_forgotten_takes_nothing_more(self) -> None:
        line = line_of(a=1)
        assert line.append("a", "part-a", 1, 3, NOW)
        assert line.parts["a"].end == 3
        assert not line.append("a", "another", 3, 4, NOW)
        assert not line.append("b", "part-b", 2, 3, NOW), "its beginning is not there"

    def test_it_is_read_as_it_was_written(self) -> None:
        line, limits = line_of(a=3, b=2), limits_of(limit=3, rate=5, fair=lambda account: account)
        for one in granted(line, limits)[:2]:
            begin(line, one, limits)
        assert Line.read(line.write()) == line

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"slots":[[1]],"parts":[],"next":0}', b"\xff"])
    def test_what_is_no_line_is_malformed(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage):
            Line.read(data)


class Losing:
    """Records of which the answer to a write of a line is lost, once it is told to."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.loses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def write(self, record: Record) -> bool:
        written: bool = await self._records.write(record)
        if self.loses and record.key.startswith("limits/line/"):
            self.loses = False
            raise BrokerUnreachable("the answer is lost")
        return written


class Program:
    """One that submits to lines in memory, and whose broker answers as it is told to."""

    def __init__(self, backend: Backend, answers: dict[str, TranshipError]) -> None:
        records = records_of(backend)
        assert records is not None
        self.records = Losing(records)
        self.results = backend.results()
        self.sent: list[Envelope] = []
        self._answers = answers
        self.lines = Lines(
            self.records, self._send, clock=Clock(), max_size=100_000, marks_ids=False, results=self.results
        )

    async def _send(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        self.sent += [one.envelope for one in messages if one.envelope.id not in self._answers]
        return [self._answers.get(one.envelope.id) or Receipt(one.envelope.id) for one in messages]

    async def enter(self, *ids: str) -> None:
        messages = [Encoder().encode(Envelope(id=one, task="pay")) for one in ids]
        await self.lines.enter(Place("acme", ""), messages, limits_of(limit=1))
        await self.lines.aclose()


@pytest.fixture
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    made = Registry().create(f"memory://{request.node.name}")
    await made.open()
    yield made
    await made.aclose()


class TestLines:
    async def test_a_change_whose_answer_is_lost_is_made_once_and_followed_up(self, backend: Backend) -> None:
        program, limits = Program(backend, {}), limits_of(limit=1, rate=0.1)
        program.records.loses = True
        await program.enter("a", "b")
        assert [one.id for one in program.sent] == ["a"], "who got the slot is sent at once"
        place = place_of(program.sent[0])
        assert place is not None
        program.records.loses = True
        assert (await program.lines.claim("pay", place, "w", limits)).standing == Standing.ITS_TURN
        await program.lines.leave("pay", place, "w", limits)
        await program.lines.aclose()
        second = place_of(program.sent[1])
        assert second is not None
        claim = await program.lines.claim("pay", second, "w", limits)
        assert claim.standing == Standing.EARLY
        assert claim.at - program.lines.now() == pytest.approx(10, abs=5), "the first one was counted once"

    async def test_what_the_broker_will_never_take_has_failed_and_frees_its_slot(self, backend: Backend) -> None:
        error = MessageTooLarge("too large", size=2, limit=1, task_id="a")
        program = Program(backend, {"a": error})
        await program.enter("a", "b")
        assert [one.id for one in program.sent] == ["b"]
        (found,) = await program.results.get_many(["a"])
        assert found.state is TaskState.FAILURE
        result = decode_result(found.document, task_id="a")
        assert (result.error and result.error.message) == "too large"

    async def test_what_the_broker_does_not_take_now_keeps_its_slot(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tranship.limits._sending.TRIES", 2)
        answers: dict[str, TranshipError] = {"a": BrokerUnreachable("it is away")}
        program = Program(backend, answers)
        await program.enter("a", "b")
        assert program.sent == []
        answers.clear()
        (record,) = await program.records.read(["limits/line/pay/acme"])
        line = Line.read(record.value)
        for slot in line.slots.values():
            slot.until = 1.0
        assert await program.records.write(Record(record.key, line.write(), record.version))
        await program.lines.look("pay", limits_of(limit=1))
        await program.lines.aclose()
        assert [one.id for one in program.sent] == ["a"], "it is sent again once its slot is overdue"
