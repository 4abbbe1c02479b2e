"""Moving a backlog between brokers of all kinds: everything arrives, once, as it was."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from move_kit import (
    LEASE,
    all_kinds,
    bury,
    envelope,
    everything,
    move,
    opened,
    put,
    put_messages,
    run,
    same,
    settings,
)

from tranship.envelope import Envelope, Priority, TaskState
from tranship.errors import (
    BrokerUnreachable,
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    InvalidURLError,
)
from tranship.operations import Move, MoveOptions, MoveProgress, MoveReport, Operator, _move_patience, _move_target
from tranship.ports import Backend, Capability, Settlement, Tombstone, Verdict
from tranship.protocol import Encoder, Message
from tranship.registry import Registry
from tranship.routing import failover
from tranship.settings import BrokerURL, Settings, SharedState
from tranship.testing.faults import Faults
from tranship.testing.services import Service

Place = Callable[[], str]


@pytest.fixture
def place(tmp_path: Path, tranship_service: Callable[[str], Service]) -> Callable[[str], str]:
    """Make the URL of a broker of a kind that nobody else uses."""

    def make(kind: str) -> str:
        name = uuid.uuid4().hex[:12]
        if kind in SERVERS:
            if find_spec(f"tranship_{kind}") is None:
                pytest.skip(f"tranship-{kind} is not installed")
            # Where the lease is the connection there is none to choose.
            lease = "" if kind == "rabbitmq" else f"&lease={LEASE:g}"
            return f"{tranship_service(kind).url}?namespace=move-{name}{lease}"
        return (
            f"memory://{name}?lease={LEASE:g}"
            if kind == "memory"
            else f"sqlite:///{tmp_path}/{name}.db?lease={LEASE:g}"
        )

    return make


SERVERS = ("redis", "nats", "rabbitmq")
KINDS = ("memory", "sqlite", "redis")
PAIRS = [
    ("memory", "sqlite"),
    ("sqlite", "memory"),
    ("sqlite", "redis"),
    ("redis", "sqlite"),
    ("redis", "redis"),
]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, place: Callable[[str], str]) -> tuple[str, str]:
    """Source and target."""
    first, second = request.param
    return place(first), place(second)


@pytest.fixture
def files(place: Callable[[str], str]) -> tuple[str, str]:
    return place("sqlite"), place("sqlite")


class TestEverything:
    def test_every_field_arrives(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = all_kinds()
        asyncio.run(put(source, *sent))
        report = move(source, target)
        assert (report.before, report.moved, report.left, report.by_others) == (len(sent), len(sent), 0, 0)
        assert (report.already_there, report.refused, report.repeated, report.contested) == (0, 0, 0, 0)
        assert {queue.name: queue.moved for queue in report.queues} == {"q": 7, "other": 2}
        asyncio.run(_nothing_there(source))
        same(asyncio.run(everything(target, ["q", "other"])), sent)

    def test_there_and_back_again(self, pair: tuple[str, str]) -> None:
        """Marks that brokers keep of ids they have seen must not be taken for the messages."""
        source, target = pair
        sent = all_kinds()
        asyncio.run(put(source, *sent))
        for _ in range(2):
            assert move(source, target).moved == len(sent)
            assert move(target, source).moved == len(sent)
        same(asyncio.run(everything(source, ["q", "other"])), sent)

    def test_order_is_kept(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = [envelope(number) for number in range(1200)]
        asyncio.run(put(source, *sent))
        assert move(source, target).moved == 1200
        assert [one.args[0] for one in asyncio.run(everything(target, ["q"]))] == list(range(1200))

    def test_dead_letters_stay_dead(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = [envelope(number, cancel_key="k", priority=Priority.LOW) for number in range(5)]
        asyncio.run(bury(source, *sent))
        with Operator(source) as operator:
            before = operator.dead_letters()
        assert move(source, target, queues=["q"]).dead_moved == 0
        report = move(source, target, dead_letters=True)
        assert (report.dead_moved, report.queues[0].dead, report.queues[0].dead_left) == (5, 5, 0)
        with Operator(target) as operator:
            after = operator.dead_letters()
            assert [_about(one) for one in after] == [_about(one) for one in before]
            assert len(operator.replay()) == 5
        same(asyncio.run(everything(target, ["q"])), sent)

    def test_a_dead_letter_is_not_added_twice(self, pair: tuple[str, str]) -> None:
        """As after a kill between adding and deleting."""
        source, target = pair
        asyncio.run(bury(source, envelope(1)))

        async def add_first() -> None:
            async with opened(source) as one, opened(target) as other:
                (letter,) = await one.inspector().dead()
                message = Message(envelope(1, id=letter.task_id), b"{}", letter.body, letter.content_type, "utf-8")
                await other.inspector().dead_add([letter], [message])  # type: ignore[attr-defined]

        asyncio.run(add_first())
        assert move(source, target, dead_letters=True).dead_moved == 1
        with Operator(target) as operator:
            assert operator.count_dead_letters() == 1


def _about(letter: object) -> tuple[object, ...]:
    names = ("task_id", "task", "queue", "priority", "reason", "detail", "deliveries", "headers", "body")
    return tuple(getattr(letter, name) for name in names)


async def _nothing_there(url: str) -> None:
    async with opened(url) as backend:
        assert not list(await backend.inspector().queues())


class TestSelection:
    def test_queues_are_chosen_by_name(self, files: tuple[str, str]) -> None:
        source, target = files
        asyncio.run(put(source, envelope(1, queue="a"), envelope(2, queue="b"), envelope(3, queue="c")))
        report = move(source, target, queues=["a", "c", "nothing-there"])
        assert [(queue.name, queue.moved) for queue in report.queues] == [("a", 1), ("c", 1), ("nothing-there", 0)]
        assert [one.queue for one in asyncio.run(everything(source, ["a", "b", "c"]))] == ["b"]

    def test_no_more_than_the_limit(self, pair: tuple[str, str]) -> None:
        source, target = pair
        asyncio.run(put(source, *(envelope(number) for number in range(700))))
        report = move(source, target, limit=600)
        assert (report.moved, report.left, report.by_others) == (600, 100, 0)
        assert move(source, target).moved == 100

    def test_delayed_ones_may_stay(self, pair: tuple[str, str]) -> None:
        source, target = pair
        late = envelope(2, not_before=float(int(time.time()) + 3600))
        asyncio.run(put(source, envelope(1), late))
        report = move(source, target, delayed=False)
        assert (report.moved, report.left, report.queues[0].delayed) == (1, 1, 1)
        same(asyncio.run(everything(source, ["q"])), [late])

    def test_a_dry_run_moves_nothing(self, files: tuple[str, str]) -> None:
        source, target = files
        sent = all_kinds()
        asyncio.run(put(source, *sent))
        report = move(source, target, dry_run=True)
        assert (report.dry_run, report.before, report.moved, report.left, report.by_others) == (True, 9, 0, None, None)
        assert [(one.name, one.ready, one.delayed) for one in report.queues] == [("other", 1, 1), ("q", 6, 1)]
        same(asyncio.run(everything(source, ["q", "other"])), sent)

    def test_an_empty_source_is_no_error(self, files: tuple[str, str]) -> None:
        report = move(*files)
        assert (report.before, report.moved, list(report.queues)) == (0, 0, [])

    @pytest.mark.parametrize(
        "options",
        [
            {"limit": 0},
            {"patience": 0},
            {"linger": -1.0},
            {"linger": "long"},
            {"linger": float("inf")},
            {"refused": "drop"},
        ],
        ids=str,
    )
    def test_bad_options(self, options: dict[str, object]) -> None:
        with pytest.raises(InvalidOptionError, match=next(iter(options))):
            MoveOptions(**options)  # type: ignore[arg-type]

    def test_what_is_not_handed_out_before_it_is_due_stays(self, place: Callable[[str], str]) -> None:
        source = failover(place("memory"), place("memory"))
        asyncio.run(put(source, envelope(1)))
        assert not [text for text in move(source, place("sqlite")).warnings if "before it is due" in text]
        asyncio.run(put(source, envelope(2), envelope(3, not_before=float(int(time.time())) + 3600)))
        report = move(source, place("sqlite"))
        assert (report.moved, report.left) == (1, 1)
        assert [text for text in report.warnings if "before it is due" in text]

    @pytest.mark.parametrize("queues", ["mail", 3, [3], [""], [None]])
    def test_bad_names(self, queues: object) -> None:
        with pytest.raises(InvalidArgumentsError, match="list of names"):
            MoveOptions(queues=queues)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("arguments", "error", "says"),
        [
            ((3,), InvalidURLError, "the broker URL is 3"),
            ((None,), InvalidURLError, "the broker URL is None"),
            (("sqlite:///new.db", {"queues": ["q"]}), InvalidArgumentsError, "expected MoveOptions"),
            (("sqlite:///new.db", None, 3), InvalidArgumentsError, "watcher is 3"),
        ],
    )
    def test_bad_arguments(self, tmp_path: Path, arguments: tuple, error: type[Exception], says: str) -> None:
        target, options, watcher = (*arguments, None, None)[:3]
        with Operator(f"sqlite:///{tmp_path}/old.db") as operator, pytest.raises(error, match=says):
            operator.move(target, options, watcher=watcher)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_broker_is_not_moved_to_itself(self, place: Callable[[str], str], kind: str) -> None:
        url = place(kind)
        asyncio.run(put(url, envelope(1)))
        with pytest.raises(ConfigurationError, match="same broker and namespace"):
            run(url, url)
        assert len(asyncio.run(everything(url, ["q"]))) == 1

    def test_an_alias_is_recognised(self, tmp_path: Path) -> None:
        source = f"sqlite:///{tmp_path}/one.db"
        (tmp_path / "other.db").symlink_to(tmp_path / "one.db")
        asyncio.run(put(source, envelope(1)))
        with pytest.raises(ConfigurationError, match="same broker"):
            run(source, f"sqlite:///{tmp_path}/other.db")

    def test_two_namespaces_are_two_brokers(self, place: Callable[[str], str]) -> None:
        source = place("redis")
        target = source.replace("namespace=move-", "namespace=other-")
        sent = all_kinds()
        asyncio.run(put(source, *sent))
        assert move(source, target).moved == len(sent)
        same(asyncio.run(everything(target, ["q", "other"])), sent)


class TestDuplicates:
    """What a killed move leaves behind: messages that are at both brokers."""

    def test_what_is_there_is_not_added_again(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = [envelope(number) for number in range(10)]
        asyncio.run(_killed_behind_the_submit(source, target, sent, 4))
        report = move(source, target)
        assert (report.moved, report.already_there, report.left, report.by_others) == (6, 4, 0, 0)
        same(asyncio.run(everything(target, ["q"])), sent)

    def test_what_has_run_at_the_target_does_not_run_again(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = [envelope(number) for number in range(3)]
        asyncio.run(_killed_behind_the_submit(source, target, sent, 3))

        async def work() -> None:
            async with opened(target) as backend:
                await _end_all(backend, 3)

        asyncio.run(work())
        report = move(source, target)
        assert (report.moved, report.already_there) == (0, 3)
        assert asyncio.run(everything(target, ["q"])) == []

    def test_a_taken_dedup_key_refuses(self, pair: tuple[str, str]) -> None:
        source, target = pair
        asyncio.run(put(target, first := envelope(1, dedup_key="once")))
        asyncio.run(put(source, second := envelope(2, dedup_key="once")))
        report = move(source, target)
        (refusal,) = report.refusals
        assert (refusal.task_id, refusal.reason, report.refused, report.left) == (second.id, "dedup-key", 1, 1)
        assert first.id in refusal.detail
        same(asyncio.run(everything(source, ["q"])), [second])


async def _killed_behind_the_submit(source: str, target: str, sent: list[Envelope], count: int) -> None:
    """As a move that was killed when the target had ``count`` of them, and the source had not heard."""
    await put(source, *sent)
    encoder = Encoder()
    async with opened(source) as one, opened(target) as other:
        consumer = one.consumer(["q"])
        deliveries = (await consumer.receive(count, 5.0)).deliveries
        assert len(deliveries) == count
        messages = [encoder.encode(envelope) for envelope in sent[:count]]
        for message in messages:
            message.check_id = True
        await other.submitter().submit(messages)
        await consumer.settle([Settlement(delivery, Verdict.NACK) for delivery in deliveries])
        await consumer.aclose()


async def _end_all(backend, count: int) -> None:  # type: ignore[no-untyped-def]
    from tranship.envelope import TaskResult
    from tranship.ports import StoredResult
    from tranship.protocol import encode_result

    consumer = backend.consumer(["q"])
    for delivery in (await consumer.receive(count, 5.0)).deliveries:
        import json

        task_id = json.loads(bytes(delivery.message.headers))["id"]
        document = encode_result(TaskResult(id=task_id, state=TaskState.SUCCESS))
        result = StoredResult(id=task_id, state=TaskState.SUCCESS, document=document)
        await consumer.settle([Settlement(delivery, Verdict.ACK, result=result)])
    await consumer.aclose()


class TestRefusals:
    def test_what_is_too_large_stays(self, place: Callable[[str], str]) -> None:
        source, target = place("sqlite"), place("sqlite") + "&max_message_size=5000"
        large = envelope(1, kwargs={"text": "x" * 6000})
        asyncio.run(put(source, large, envelope(2)))
        report = move(source, target)
        (refusal,) = report.refusals
        assert (report.moved, report.refused, report.left, report.by_others) == (1, 1, 1, 0)
        assert (refusal.task_id, refusal.reason) == (large.id, "message_too_large")
        assert "5,000" in refusal.detail
        same(asyncio.run(everything(source, ["q"])), [large])

    def test_or_becomes_a_dead_letter(self, place: Callable[[str], str]) -> None:
        source, target = place("redis"), place("sqlite") + "&max_message_size=5000"
        large = envelope(1, kwargs={"text": "x" * 6000})
        asyncio.run(put(source, large, envelope(2)))
        report = move(source, target, refused="dead-letter")
        assert (report.moved, report.refused, report.dead_lettered, report.left) == (1, 1, 1, 0)
        assert report.by_others == 0
        with Operator(source) as operator:
            (letter,) = operator.dead_letters()
        assert (letter.task_id, letter.reason) == (large.id, "move-refused")
        assert "5,000" in letter.detail

    def test_what_stays_is_not_counted_as_delivered(self, place: Callable[[str], str]) -> None:
        source, target = place("sqlite"), place("memory") + "&max_message_size=100"
        asyncio.run(put(source, *all_kinds()))
        assert move(source, target).refused == 9

        async def look() -> None:
            async with opened(source) as backend:
                infos = {info.name: info for info in await backend.inspector().queues()}
                assert (infos["q"].delayed, infos["other"].delayed) == (1, 1)
                consumer = backend.consumer(["q", "other"])
                deliveries = (await consumer.receive(10, 1.0)).deliveries
                assert [one.delivery_count for one in deliveries] == [1] * 7
                await consumer.aclose()

        asyncio.run(look())

    def test_too_many_refusals_end_it(self, place: Callable[[str], str]) -> None:
        source, target = place("memory"), place("memory") + "&max_message_size=100"
        asyncio.run(put(source, *(envelope(number) for number in range(3000))))
        report = run(source, target)
        assert "refuses more than" in str(report.error)
        assert report.left == 3000
        assert len(report.refusals) == 100


class TestUnreadable:
    def test_is_moved_as_it_is(self, pair: tuple[str, str]) -> None:
        """A worker at the target will make a dead letter of it, with the reason."""
        source, target = pair
        headers = b'{"id":"odd","task":"move.odd","retries":"many","x-own":1}'
        odd = Message(envelope(1, id="odd"), headers, b"no json", "application/x-unknown", "binary")
        asyncio.run(put_messages(source, [odd]))
        report = move(source, target)
        assert (report.moved, report.refused) == (1, 0)

        async def look() -> None:
            async with opened(target) as backend:
                consumer = backend.consumer(["q"])
                (delivery,) = (await consumer.receive(1, 5.0)).deliveries
                raw = delivery.message
                assert (raw.body, raw.content_type, raw.content_encoding) == (
                    b"no json",
                    "application/x-unknown",
                    "binary",
                )
                assert raw.headers == headers
                await consumer.aclose()

        asyncio.run(look())

    def test_without_a_header_map_it_stays(self, place: Callable[[str], str]) -> None:
        source, target = place("sqlite"), place("sqlite")
        odd = Message(envelope(1, id="odd"), b"[1, 2]", b"[]", "application/json", "utf-8")
        asyncio.run(put_messages(source, [odd]))
        report = move(source, target)
        assert (report.moved, report.refused, report.left) == (0, 1, 1)
        assert report.refusals[0].reason == "malformed"


class TestCancels:
    @pytest.mark.parametrize(("kind", "value"), [("id", "task-1"), ("key", "job")])
    def test_what_is_cancelled_is_cancelled_at_the_target(self, pair: tuple[str, str], kind: str, value: str) -> None:
        source, target = pair

        async def cancel_and_put() -> None:
            async with opened(source) as backend:
                tombstone = Tombstone(kind=kind, value=value, expires=time.time() + 600)
                await backend.control().cancel([tombstone])
            await put(source, envelope(1, id="task-1", cancel_key="job"), envelope(2))

        asyncio.run(cancel_and_put())
        report = move(source, target)
        assert (report.moved, report.cancels) == (2, 1)

        async def heard() -> list[object]:
            signals: list[object] = []
            async with opened(target) as backend:
                await backend.control().listen(signals.extend, worker="w")
            return signals

        assert [(one.kind, one.value) for one in asyncio.run(heard())] == [(kind, value)]  # type: ignore[attr-defined]

    def test_what_the_target_removes_at_once_is_told_to_who_waits(self, place: Callable[[str], str]) -> None:
        """Results are kept in one place for both, as the guide advises."""
        source, target, results = place("memory"), place("sqlite"), place("sqlite")
        gone, moved = envelope(1, cancel_key="job"), envelope(2)
        asyncio.run(put(target, gone))
        asyncio.run(put(source, moved))

        async def cancelled() -> MoveReport:
            async with opened(source) as backend:
                await backend.control().cancel([Tombstone(kind="key", value="job", expires=time.time() + 600)])
            there = Settings.load({}, broker_url=target, result_url=results)
            return await Move(settings(source), there, MoveOptions(linger=0.0)).run()

        assert asyncio.run(cancelled()).cancels == 1

        async def states() -> list[TaskState]:
            async with opened(results) as backend:
                return [one.state for one in await backend.results().get_many([gone.id, moved.id])]

        assert asyncio.run(states()) == [TaskState.CANCELLED, TaskState.UNKNOWN]


class _Stalled(Registry):
    """Targets in memory do what the faults say."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def create(self, url: str | BrokerURL, *, shared: SharedState | None = None) -> Backend:
        backend = super().create(url, shared=shared)
        return self._faults.wrap(backend) if str(url).startswith("memory") else backend


class TestEnding:
    def test_an_interrupt_after_a_stop_ends_it_at_once(
        self, place: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C twice: the first one asked to stop, and waits for what the target does not answer."""
        source, target = place("sqlite"), place("memory")
        asyncio.run(put(source, envelope(1)))
        monkeypatch.setattr(_move_target, "SLOW", 0.05)
        monkeypatch.setattr(_move_patience, "GRACE", 3600.0)
        main = threading.main_thread().ident
        assert main is not None

        def twice(told: MoveProgress) -> None:
            if told.note:
                mover.stop()
                signal.pthread_kill(main, signal.SIGINT)

        faults = Faults()
        faults.stall("submit", times=-1)
        mover = Move(settings(source), settings(target), registry=_Stalled(faults), watcher=twice)
        with pytest.raises(KeyboardInterrupt):
            mover.run_blocking()
        assert len(asyncio.run(everything(source, ["q"]))) == 1

    def test_a_target_that_is_not_there(self, place: Callable[[str], str]) -> None:
        source = place("sqlite")
        asyncio.run(put(source, envelope(1)))
        with pytest.raises(BrokerUnreachable):
            run(source, "redis://127.0.0.1:1/0")
        assert len(asyncio.run(everything(source, ["q"]))) == 1

    def test_a_stop_gives_everything_back(self, pair: tuple[str, str]) -> None:
        source, target = pair
        sent = [envelope(number) for number in range(3000)]
        asyncio.run(put(source, *sent))

        async def stopped() -> object:
            mover = Move(settings(source), settings(target), watcher=lambda told: told.moved >= 500 and mover.stop())
            return await mover.run()

        report = asyncio.run(stopped())
        assert report.stopped  # type: ignore[attr-defined]
        assert 500 <= report.moved < 3000  # type: ignore[attr-defined]
        assert report.by_others == 0  # type: ignore[attr-defined]
        again = move(source, target)
        assert again.moved == 3000 - report.moved  # type: ignore[attr-defined]
        same(asyncio.run(everything(target, ["q"])), sent)

    def test_a_cancelled_call_gives_everything_back(self, files: tuple[str, str]) -> None:
        source, target = files
        sent = [envelope(number) for number in range(3000)]
        asyncio.run(put(source, *sent))

        async def cancelled() -> None:
            begun = asyncio.Event()
            mover = Move(settings(source), settings(target), watcher=lambda told: told.moved and begun.set())
            running = asyncio.create_task(mover.run())
            await asyncio.wait_for(begun.wait(), 20)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(cancelled())
        report = move(source, target, linger=0.0)
        assert (report.left, report.by_others) == (0, 0)
        same(asyncio.run(everything(target, ["q"])), sent)

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_waits_for_what_a_killed_move_holds(self, place: Callable[[str], str], kind: str) -> None:
        source, target = place(kind), place("memory")
        sent = [envelope(number) for number in range(3)]
        asyncio.run(put(source, *sent))

        async def hold_and_move() -> object:
            async with opened(source) as backend:
                held = backend.consumer(["q"])
                await held.receive(2, 5.0)
                # Nobody extends: as if its process had died.
                return await Move(settings(source), settings(target)).run()

        report = asyncio.run(hold_and_move())
        assert (report.moved, report.left) == (3, 0)  # type: ignore[attr-defined]
        same(asyncio.run(everything(target, ["q"])), sent)

    def test_the_operator_has_it(self, files: tuple[str, str]) -> None:
        source, target = files
        asyncio.run(put(source, *all_kinds()))
        with Operator(source) as operator:
            seen = []
            report = operator.move(target, MoveOptions(queues=["other"]), watcher=seen.append)
        assert (report.moved, report.before, report.left) == (2, 2, 0)
        assert (seen[-1].done, seen[-1].total) == (2, 2)


def test_every_backend_can_be_emptied(place: Callable[[str], str]) -> None:
    """Delayed messages and dead letters included."""
    from tranship.ports import DeadLetterTaker, EarlyConsumer

    async def look(url: str) -> tuple[bool, bool]:
        async with opened(url) as backend:
            assert backend.capabilities.has(Capability.DELAY)
            consumer = backend.consumer(["q"])
            found = isinstance(consumer, EarlyConsumer), isinstance(backend.inspector(), DeadLetterTaker)
            await consumer.aclose()
            return found

    assert [asyncio.run(look(place(kind))) for kind in KINDS] == [(True, True)] * 3


def test_attempts_of_one_task_are_told_apart(place: Callable[[str], str]) -> None:
    source, target = place("redis"), place("memory")
    first = envelope(1)
    asyncio.run(put(source, first))
    assert move(source, target).moved == 1
    asyncio.run(everything(target, ["q"]))
    asyncio.run(put(source, replace(first, attempt=1)))
    assert move(source, target).moved == 1
