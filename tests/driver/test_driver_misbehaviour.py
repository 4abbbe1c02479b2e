"""Verbs that answer what they may not, callbacks that are called wrongly, tables that forget, topics that repeat: each is
named, with driver and rule; nobody hangs, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import Any

import pytest

from driver.conditions import until
from driver.crashes import message, result
from driver.rows_driver import Broker, Queue, Table, Topic
from driver.wire import Wire
from tranship.driver import LocalConnection, TakenBatch, _steps
from tranship.errors import PluginError, SubmitUnknown
from tranship.ports import Command, Heartbeat, Settlement, Tombstone, Verdict


def beat() -> Heartbeat:
    return Heartbeat(worker="w", host="here", pid=1, queues=["q"], running=[], limit=1, at=time.time())


# --- answers that a verb may not give ---


def answering(part: type, verb: str, answer: Any) -> type:
    """Return a driver's part of which one verb answers something else."""

    async def wrong(self: Any, *arguments: Any) -> Any:
        found = await getattr(part, verb)(self, *arguments)
        return answer(found) if callable(answer) else answer

    return type("Wrong", (part,), {verb: wrong})


async def receive_one(backend: Any):
    await backend.submitter().submit([message()])
    consumer = backend.consumer(["q"])
    (held,) = (await consumer.receive(1, 5.0)).deliveries
    return consumer, held


async def take(backend: Any) -> None:
    await receive_one(backend)


async def extend(backend: Any) -> None:
    consumer, held = await receive_one(backend)
    await consumer.extend([held])


async def store(backend: Any) -> None:
    await backend.results().put([result("a", 1)])


async def read(backend: Any) -> None:
    await backend.results().get_many(["a"])


async def say_hello(backend: Any) -> None:
    await backend.control().beat(beat())


async def forget(backend: Any) -> None:
    await backend.results().forget_many(["a"])


async def cancel(backend: Any) -> None:
    await backend.submitter().submit([message(cancel_key="k")])
    await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])


async def count(backend: Any) -> None:
    await backend.inspector().queues()


async def bury(backend: Any) -> None:
    await backend.inspector().dead()


async def look(backend: Any) -> None:
    await backend.inspector().waiting("q")


FEWER = {"answer": lambda found: list(found)[:-1], "says": "gave 0 answers for 1 items"}
MORE = {"answer": lambda found: [*found, *found], "says": "gave 2 answers for 1 items"}
WRONG = {"answer": lambda found: ["what?" for _ in found], "says": "answered 'what?'; expected one of"}
NONE = {"answer": None, "says": "gave None for 1 items"}
ODD = {"answer": lambda _found: ["what?"], "says": "gave 'what?' among what it found; expected"}
NO_LIST = {"answer": 7, "says": "gave 7; expected a sequence of"}
ANSWERING = [
    (Queue, "renew", extend),
    (Table, "create", store),
    (Table, "get", read),
    (Table, "put", say_hello),
    (Table, "delete", forget),
]
LISTING = [
    (Queue, "find", cancel),
    (Queue, "pick", cancel),
    (Queue, "queues", count),
    (Queue, "scan", look),
    (Table, "page", bury),
]


@pytest.mark.parametrize("how", [FEWER, MORE, WRONG, NONE], ids=["fewer", "more", "wrong", "none"])
@pytest.mark.parametrize(("part", "verb", "ask"), ANSWERING, ids=[verb for _, verb, _ in ANSWERING])
async def test_an_answer_that_a_verb_may_not_give_is_named(
    part: type, verb: str, ask: Any, how: dict[str, Any]
) -> None:
    await named(part, verb, ask, how)


@pytest.mark.parametrize("how", [ODD, NO_LIST], ids=["odd", "no-list"])
@pytest.mark.parametrize(("part", "verb", "ask"), LISTING, ids=[verb for _, verb, _ in LISTING])
async def test_what_a_verb_may_not_find_is_named(part: type, verb: str, ask: Any, how: dict[str, Any]) -> None:
    await named(part, verb, ask, how)


async def named(part: type, verb: str, ask: Any, how: dict[str, Any]) -> None:
    wrong = answering(part, verb, how["answer"])
    backend = (Broker(queues=wrong) if part is Queue else Broker(tables=wrong)).backend()
    await backend.open()
    with pytest.raises(PluginError) as caught:
        async with asyncio.timeout(5.0):
            await ask(backend)
    assert f"rows: {verb}() " in str(caught.value)
    assert how["says"] in str(caught.value)
    await backend.aclose()


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (TakenBatch(["what?"]), r"rows: take\(\) gave 'what\?' among what it found; expected Taken"),  # type: ignore[list-item]
        (TakenBatch(None), r"rows: take\(\) gave None; expected a sequence of Taken"),  # type: ignore[arg-type]
        (TakenBatch((), next_due="soon"), r"rows: take\(\) gave next_due='soon'; expected seconds, or None"),  # type: ignore[arg-type]
        (
            TakenBatch((), next_due=time.time() + 30),
            r"rows: take\(\) gave next_due=.* a point in time; expected seconds",
        ),
    ],
    ids=["items", "none", "due", "due-at"],
)
async def test_a_batch_that_cannot_be_is_named(batch: TakenBatch, says: str) -> None:
    broker = Broker()
    broker.queues = answering(Queue, "take", batch)
    backend = broker.backend()
    await backend.open()
    with pytest.raises(PluginError, match=says):
        await backend.consumer(["q"]).receive(1, 5.0)
    await backend.aclose()


async def test_what_is_due_in_a_lifetime_is_no_point_in_time() -> None:
    broker = Broker()
    broker.queues = answering(Queue, "take", TakenBatch((), next_due=3e9))
    backend = broker.backend()
    await backend.open()
    assert not (await backend.consumer(["q"]).receive(1, 0.1)).deliveries
    await backend.aclose()


# --- callbacks ---


async def posted(backend: Any) -> list[Any]:
    """Post a batch of two as the core does; return the answers of each time that it was told."""
    told: list[Any] = []
    backend.submitter().post([message(), message()], told.append)
    assert not told, "answered from inside the call"
    await until(lambda: told, "the batch is answered")
    return told


def posting(post: Any) -> Broker:
    class Posts(Queue):
        def _post(self, batch, done):
            post(lambda answers: Queue._post(self, batch, answers), batch, done)

    return Broker(posts=True, queues=Posts)


async def test_done_that_is_called_twice_counts_once(caplog) -> None:
    def post(really, batch, done):
        def twice(answers):
            done(answers)
            done(ConnectionResetError("no, it is not"))

        really(twice)

    backend = posting(post).backend()
    await backend.open()
    told = await posted(backend)
    assert [[type(one).__name__ for one in answers] for answers in told] == [["Receipt", "Receipt"]]
    assert "rows: post() called done twice for one batch" in caplog.text
    await backend.aclose()


async def test_done_that_is_never_called_is_answered_in_time(caplog) -> None:
    backend = posting(lambda _really, _batch, _done: None).backend()
    backend._kit.submitter._posts._deadlines._seconds = 0.05
    await backend.open()
    (answers,) = await posted(backend)
    assert [type(one) for one in answers] == [SubmitUnknown] * 2
    assert "rows: post() has not called done for a batch within" in caplog.text
    await backend.aclose()


async def test_done_that_is_never_called_gives_the_connection_up() -> None:
    wire = Wire(posting(lambda _really, _batch, _done: None))
    backend = wire.backend(command=0.1)
    await backend.open()
    wire.connections[0].queue.post = lambda _batch, _done: None
    (answers,) = await posted(backend)
    assert [type(one) for one in answers] == [SubmitUnknown] * 2
    assert wire.connections[0].lost.done()
    await backend.aclose()


async def test_done_that_is_called_from_another_thread_is_heard_on_the_loop(caplog) -> None:
    def post(_really, batch, done):
        threading.Thread(target=done, args=([None] * len(batch),)).start()

    backend = posting(post).backend()
    await backend.open()
    threads: list[int] = []
    backend.submitter().post([message()], lambda _answers: threads.append(threading.get_ident()))
    await until(lambda: threads, "the batch is answered")
    assert threads == [threading.get_ident()]
    assert "rows: post() called done from another thread than the loop's" in caplog.text
    await backend.aclose()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([None], "rows: post() gave 1 answers for 2 items"),
        (["a", True], "rows: post() answered True; expected one of"),
        (KeyError("a bug"), "rows: post() raised KeyError, which the driver's classify() does not know"),
        (ConnectionResetError("gone"), "ConnectionResetError: gone"),
    ],
    ids=["fewer", "wrong", "native", "unreachable"],
)
@pytest.mark.parametrize("how", ["later", "at once", "raises"])
async def test_what_post_says_wrongly_is_unknown(how: str, answer: Any, says: str) -> None:
    def post(_really, _batch, done):
        if how == "later":
            asyncio.get_running_loop().call_soon(done, answer)
        elif how == "at once" or not isinstance(answer, Exception):
            done(answer)
        else:
            raise answer

    backend = posting(post).backend()
    await backend.open()
    (answers,) = await posted(backend)
    assert [type(one) for one in answers] == [SubmitUnknown] * 2
    assert says in str(answers[0])
    await backend.aclose()


# --- the loop ---


@pytest.mark.parametrize("immediate", [False, True], ids=["task", "immediate"])
async def test_a_verb_that_blocks_the_loop_is_named(caplog, monkeypatch, immediate: bool) -> None:
    for module in ("_steps", "_posts"):
        monkeypatch.setattr(f"tranship.driver.{module}.BLOCKED", 0.02)

    class Blocking(Queue):
        async def send(self, batch):
            threading.Event().wait(0.05)
            return await super().send(batch)

    backend = Broker(queues=Blocking, immediate=immediate).backend()
    await backend.open()
    assert await backend.submitter().submit([message()])
    assert re.search(r"rows: send\(\) has blocked the event loop for \d\.\d s", caplog.text)
    await backend.aclose()


async def test_a_verb_that_only_waits_blocks_nothing(caplog, monkeypatch) -> None:
    monkeypatch.setattr(_steps, "BLOCKED", 0.02)

    class Slow(Queue):
        async def send(self, batch):
            await asyncio.sleep(0.05)
            return await super().send(batch)

    backend = Broker(queues=Slow).backend()
    await backend.open()
    assert await backend.submitter().submit([message()])
    assert "blocked" not in caplog.text
    await backend.aclose()


async def test_an_immediate_verb_that_waits_is_named() -> None:
    class Waits(Queue):
        async def send(self, batch):
            await asyncio.sleep(0)
            return await super().send(batch)

    backend = Broker(queues=Waits, immediate=True).backend()
    await backend.open()
    (answer,) = await backend.submitter().submit([message()])
    assert isinstance(answer, SubmitUnknown)
    assert "rows: send() waits, and its connection says that it is immediate" in str(answer)
    await backend.aclose()


async def test_a_take_cannot_wait_over_an_immediate_connection() -> None:
    backend = Broker(waits=True, immediate=True).backend()
    with pytest.raises(PluginError, match=r"rows: its take waits \(traits.waits\), and its connection is immediate"):
        await backend.open()


# --- tables that forget, topics that repeat ---


class ForgetsResults(Table):
    async def get(self, keys):
        return [None if key.startswith("r/") else row for key, row in zip(keys, await super().get(keys), strict=True)]


async def test_a_table_that_forgets_is_named(caplog) -> None:
    backend = Broker(tables=ForgetsResults).backend()
    await backend.open()
    pushed: list[Any] = []
    backend.results().attach(pushed.extend)
    backend.results().expect(["a"])
    failed = result("a", 1)
    object.__setattr__(failed, "state", type(failed.state).FAILURE)
    await backend.results().put([failed])
    await until(lambda: "the table has no row 'r/a', and there was word of it" in caplog.text, "somebody is told")
    assert not pushed
    await backend.aclose()


class Repeats(Topic):
    """Delivers everything twice, the second time late."""

    def subscribe(self, names, heard):
        def twice(name, value):
            heard(name, value)
            asyncio.get_running_loop().call_later(0.02, heard, name, value)

        self._twice = getattr(self, "_twice", {})
        super().subscribe(names, self._twice.setdefault(heard, twice))

    def unsubscribe(self, names, heard):
        """What was subscribed is told for ever."""


async def test_a_topic_that_repeats_itself_harms_nobody() -> None:
    broker = Broker(topics=Repeats)
    backend = broker.backend()
    await backend.open()
    signals: list[Any] = []
    pushed: list[Any] = []
    await backend.control().listen(signals.extend, worker="w")
    backend.results().attach(pushed.extend)
    backend.results().expect(["a"])
    await backend.control().send(Command(name="grow"))
    await backend.results().put([result("a", 1)])
    await until(lambda: pushed and signals, "both are heard")
    backend.results().unexpect(["a"])
    # Behind it, whatever was late has come, too.
    late = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, late.set_result, None)
    await late
    assert [one.name for one in signals] == ["grow"]
    assert len(pushed) == 1
    await backend.aclose()


async def test_what_is_taken_while_everything_is_wrong_can_be_settled_later() -> None:
    broker = Broker()
    backend = broker.backend()
    await backend.open()
    consumer, held = await receive_one(backend)
    queue = backend._supervisor.current.queue
    end, queue.end = queue.end, answering(Queue, "end", None)(broker, 30.0).end
    (answer,) = await consumer.settle([Settlement(held, Verdict.NACK)])
    assert isinstance(answer, PluginError)
    queue.end = end
    again = await consumer.settle([Settlement(held, Verdict.ACK)])
    assert again
    assert len(broker.ids()) in (0, 1)
    await backend.aclose()


def test_a_local_connection_is_not_immediate_unless_it_says_so() -> None:
    assert not LocalConnection(queue=None).immediate  # type: ignore[arg-type]
