"""Servers that refuse, are full, or lose things: an error that says what to do, and back to work once it is done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from rabbitmq_kit import WITHIN, control_beside, message, opened, raw, until, url_of

from tranship import AsyncClient, Worker, task
from tranship.envelope import Receipt
from tranship.errors import BrokerRefused, BrokerUnreachable, MessageTooLarge, StorageFull, UnsupportedError
from tranship.ports import Settlement, Verdict
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.services import Service
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq.amqp.connection import Place, dial
from tranship_rabbitmq.amqp.ends import ChannelEnded

pytestmark = pytest.mark.timeout(120)


async def declare(lab: CaseContext, queue: str, **arguments: Any) -> None:
    async with raw(lab) as channel:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        await channel.call("queue.declare", 0, f"{lab.namespace}:{queue}", False, True, False, False, False, named)


# --- queues of another kind -----------------------------------------------------------------------


async def test_a_queue_of_another_type_is_an_error_that_names_both(lab):
    await declare(lab, "q", x_queue_type="quorum")
    backend = await lab.open()
    with pytest.raises(BrokerRefused, match=r"x-queue-type.*quorum.*option queue_type"):
        await backend.ensure(["q"])
    (answer,) = await backend.submitter().submit([lab.message()])
    assert isinstance(answer, BrokerRefused)
    (other,) = await backend.submitter().submit([lab.message(queue="p")])
    assert isinstance(other, Receipt), "one bad queue took its neighbours along"


async def test_the_right_option_makes_peace_with_it(lab):
    await declare(lab, "q", x_queue_type="quorum")
    backend = await lab.open(queue_type="quorum")
    ids = await lab.submit(backend, *lab.messages(3))
    assert await lab.drain(backend.consumer(["q"]), 3) == ids


async def test_arguments_of_the_operators_own_are_left_alone_and_told(lab):
    await declare(lab, "q", x_message_ttl=600_000)
    backend = await lab.open()
    ids = await lab.submit(backend, lab.message())
    assert await lab.drain(backend.consumer(["q"]), 1) == ids
    assert [one for one in backend.warnings if "x-message-ttl" in one]


async def test_the_option_max_priority_needs_a_queue_that_has_it(lab):
    await declare(lab, "q")
    backend = await lab.open(max_priority=9)
    with pytest.raises(BrokerRefused, match=r"x-max-priority.*option max_priority"):
        await backend.ensure(["q"])


async def test_with_max_priority_all_levels_are_in_celerys_queue(lab):
    from tranship.envelope import Priority

    await declare(lab, "q", x_max_priority=9)
    backend = await lab.open(max_priority=9)
    levels = [Priority.LOW, Priority.VERY_LOW, Priority.HIGH, Priority.NORMAL]
    await lab.submit(backend, *(lab.message(priority=level) for level in levels))
    consumer = backend.consumer(["q"])
    got = [delivery.priority for _ in range(4) for delivery in await lab.receive(consumer)]
    assert got == sorted(levels)


# --- things that are deleted ----------------------------------------------------------------------


async def test_a_queue_deleted_under_a_waiting_consumer_comes_back(lab):
    backend, other = await lab.open(), await lab.open()
    consumer = backend.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    waiting = lab.start(consumer.receive(1, WITHIN))
    await asyncio.sleep(0)
    async with raw(lab) as channel:
        await channel.call("queue.delete", 0, f"{lab.namespace}:q", False, False, False)
    ids = await until(lambda: _submitted(lab, other))
    assert ids_of((await waiting).deliveries) == ids


async def test_a_submit_to_a_deleted_queue_is_known_not_to_be_stored(lab):
    backend = await lab.open()
    await lab.submit(backend, lab.message())
    async with raw(lab) as channel:
        await channel.call("queue.delete", 0, f"{lab.namespace}:q", False, False, False)
    (answer,) = await backend.submitter().submit([lab.message()])
    assert isinstance(answer, BrokerUnreachable), answer
    ids = await lab.submit(backend, lab.message())
    assert await lab.drain(backend.consumer(["q"]), 1) == ids


async def test_a_schedule_that_was_deleted_is_built_again(lab):
    backend = await lab.open()
    # Building the first one of a virtual host takes a while.
    await lab.submit(backend, lab.message(queue="other", not_before=time.time() + 0.1))
    # Not due before the schedule is there again: what comes to a level while that is missing is lost.
    later = [lab.message(not_before=time.time() + 3) for _ in range(2)]
    await lab.submit(backend, later[0])
    async with raw(lab) as channel:
        for level in range(28):
            await channel.call("exchange.delete", 0, f"tranship.delay.{level}", False, False)
    await backend.submitter().submit([lab.message(not_before=time.time() + 0.3)])
    ids = await lab.submit(backend, later[1])
    consumer = backend.consumer(["q"])
    assert set(ids) <= set(await lab.drain(consumer, 2))


async def _submitted(lab: CaseContext, backend: Any) -> list[str]:
    message = lab.message()
    (answer,) = await backend.submitter().submit([message])
    return [message.envelope.id] if isinstance(answer, Receipt) else []


async def test_a_virtual_host_deleted_and_made_again(rabbitmq_service, lab):
    control = control_beside(rabbitmq_service)
    await control("add_vhost", "gone")
    await control("set_permissions", "-p", "gone", "guest", ".*", ".*", ".*")
    backend = Registry().create(f"{_at(rabbitmq_service)}/gone?command_timeout=3")
    await backend.open()
    try:
        consumer = backend.consumer(["q"])
        assert not (await consumer.receive(1, 0.1)).deliveries
        await control("delete_vhost", "gone")
        error = await until(lambda: _raised(consumer.receive(1, 0.5)))
        assert error.retryable, "a worker would give up for good"
        await control("add_vhost", "gone")
        await control("set_permissions", "-p", "gone", "guest", ".*", ".*", ".*")
        ids = await until(lambda: _submitted(lab, backend), BrokerUnreachable)
        received = await until(lambda: _received(consumer), BrokerUnreachable)
        assert ids_of(received) == ids
    finally:
        await backend.aclose()
        with contextlib.suppress(Exception):
            await control("delete_vhost", "gone")


async def _raised(call: Awaitable[Any]) -> BrokerUnreachable | None:
    try:
        await call
    except BrokerUnreachable as error:
        return error
    return None


async def _received(consumer: Any) -> Any:
    return (await consumer.receive(1, 1.0)).deliveries


def _at(service: Service, user: str = "guest:guest") -> str:
    url = BrokerURL.parse(service.url)
    return f"amqp://{user}@{url.host}:{url.port}"


# It restarts the server and asks it with the command line all the time: half a minute of a processor for one second
# in the life of a virtual host. Kills of RabbitMQ are campaigns.
@pytest.mark.campaign
async def test_the_first_delays_of_a_virtual_host_survive_a_kill_at_once(rabbitmq_service):
    """RabbitMQ loses replicated queues that are killed in their first second. Nobody's message is taken before that."""
    control = control_beside(rabbitmq_service)
    await control("add_vhost", "fresh")
    await control("set_permissions", "-p", "fresh", "guest", ".*", ".*", ".*")
    url = url_of(rabbitmq_service, vhost="fresh", command_timeout=3)
    try:
        async with opened(url) as builder, opened(url) as second:
            first, later = message(not_before=time.time() + 600), message(not_before=time.time() + 600)
            building = asyncio.create_task(builder.submitter().submit([first]))
            await until(lambda: _has(rabbitmq_service, "queue", "tranship.delay.27"))
            assert await second.submitter().submit([later]) == [Receipt(later.envelope.id)]
            assert await _has(rabbitmq_service, "exchange", "tranship.delay.kept"), "it was taken too early"
            await asyncio.to_thread(rabbitmq_service.kill)
            await asyncio.gather(building, return_exceptions=True)
        await asyncio.to_thread(rabbitmq_service.start)

        async def kept() -> bool:
            told = await control("list_queues", "-p", "fresh", "name", "messages", "--no-table-headers")
            delays = [line.split("\t")[1] for line in told.splitlines() if line.startswith("tranship.delay.")]
            return any(int(count) for count in delays if count)

        await until(kept)
    finally:
        await control("delete_vhost", "fresh")


async def test_a_stream_whose_process_is_away_is_waited_for(rabbitmq_service, lab):
    """A server that has just started knows a stream before it can be read."""
    await (await lab.open()).inspector().queues()
    await control_beside(rabbitmq_service)("eval", _AILING % f"{lab.namespace}:tranship.queues")

    async def looked() -> bool:
        backend = await lab.open()
        await backend.inspector().queues()
        await backend.aclose()
        return True

    for _ in range(30):
        # Now and then the process dies under the reader's hands: then the server drops the connection.
        await until(looked, BrokerUnreachable)


async def test_a_look_whose_connection_is_lost_is_no_submit_that_is_unknown(lab, monkeypatch):
    """To read a stream, a mark is published into it; whoever looks has submitted nothing."""
    proxy = lab.proxy()
    backend = await lab.open(via=proxy)
    await backend.inspector().queues()
    post = Publisher.post_any

    def post_and_lose(self: Publisher, *arguments: Any, **named: Any) -> None:
        proxy.mute()
        post(self, *arguments, **named)
        asyncio.get_running_loop().call_soon(proxy.reset)

    monkeypatch.setattr(Publisher, "post_any", post_and_lose)
    with pytest.raises(BrokerUnreachable, match=r"reading .*tranship\.queues.*connection was lost"):
        await backend.inspector().queues()
    monkeypatch.undo()
    proxy.heal()

    async def looked() -> bool:
        await backend.inspector().queues()
        return True

    await until(looked, BrokerUnreachable)


_AILING = """
{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
#{name := Id} = amqqueue:get_type_state(Q),
Kill = fun() -> case rabbit_stream_coordinator:local_pid(Id) of {ok, P} -> exit(P, kill); _ -> ok end end,
spawn(fun() -> [begin Kill(), timer:sleep(1) end || _ <- lists:seq(1, 1000)] end).
"""
"""A second of dying, once per millisecond."""


async def _has(service: Service, kind: str, name: str) -> bool:
    place = BrokerURL.parse(service.url)
    connection = await dial(Place(place.host, place.port or 5672, "fresh", "guest", "guest", 10, "raw"))
    try:
        channel = await connection.wire.channel()
        # Passively; both have five flags.
        arguments = [name, "topic"] if kind == "exchange" else [name]
        await channel.call(f"{kind}.declare", 0, *arguments, True, True, False, False, False, {})
    except ChannelEnded:
        return False
    finally:
        await connection.aclose()
    return True


# --- rights, and room -----------------------------------------------------------------------------


async def test_missing_rights_are_named_with_the_cure(rabbitmq_service, lab):
    control = control_beside(rabbitmq_service)
    await control("add_user", "poor", "poor")
    try:
        backend = Registry().create(f"{_at(rabbitmq_service, 'poor:poor')}//")
        with pytest.raises(BrokerRefused, match="set_permissions"):
            await backend.open()
        await control("set_permissions", "-p", "/", "poor", "", ".*", ".*")
        backend = Registry().create(f"{_at(rabbitmq_service, 'poor:poor')}//?namespace={lab.namespace}")
        await backend.open()
        try:
            (answer,) = await backend.submitter().submit([lab.message()])
            assert isinstance(answer, BrokerRefused)
            assert "set_permissions" in str(answer)
            # What exists may be used without the right to make it.
            await (await lab.open()).ensure(["q"])
            assert isinstance((await backend.submitter().submit([lab.message()]))[0], Receipt)
        finally:
            await backend.aclose()
    finally:
        await control("delete_user", "poor")


async def test_a_full_server_refuses_submits_and_goes_on_delivering(rabbitmq_service, lab):
    control = control_beside(rabbitmq_service)
    backend = await lab.open()
    held, waiting, *_ = await lab.submit(backend, *lab.messages(4))
    consumer = backend.consumer(["q"])
    first = await lab.receive(consumer)
    assert ids_of(first) == [held]
    await control("set_vm_memory_high_watermark", "0.0000001")
    try:
        blocked = await until(lambda: _refused(lab, backend))
        assert "free" in str(blocked)
        (answer,) = await consumer.settle([Settlement(first[0], Verdict.REJECT, reason="kit")])
        assert isinstance(answer, StorageFull)
        await lab.settle(consumer, Verdict.ACK, *first)
        assert await lab.drain(consumer, 1) == [waiting]
    finally:
        await control("set_vm_memory_high_watermark", "0.4")
    await until(lambda: _submitted(lab, backend))


async def _refused(lab: CaseContext, backend: Any) -> StorageFull | None:
    try:
        # The first one after the alarm is on its way for ever: only then the server says that it is full.
        async with asyncio.timeout(1.0):
            (answer,) = await backend.submitter().submit([lab.message(queue="other")])
    except TimeoutError:
        return None
    return answer if isinstance(answer, StorageFull) else None


async def test_a_message_over_the_servers_maximum_is_refused_and_takes_none_along(rabbitmq_variant):
    """Nobody can ask for it; a channel ends over the first one. What was behind it is known not to be stored."""
    service = rabbitmq_variant("max_message_size = 65536")
    async with opened(url_of(service)) as backend:
        await backend.ensure(["q"])
        large, small = message(args=("x" * 100_000,)), [message() for _ in range(2)]
        refused, *answers = await backend.submitter().submit([large, *small])
        for error in (refused, (await backend.submitter().submit([large]))[0]):
            assert isinstance(error, MessageTooLarge), error
            assert error.limit == 65536
            assert "max_message_size" in str(error)
        assert {type(answer) for answer in answers} <= {BrokerUnreachable, Receipt}
        # The second time it is known before anything is written.
        later = [message(), large, message()]
        first, error, last = await backend.submitter().submit(later)
        assert isinstance(error, MessageTooLarge)
        assert [first, last] == [Receipt(later[0].envelope.id), Receipt(later[2].envelope.id)]


# --- counting, and results that are only pushed ---------------------------------------------------


async def test_a_crash_loop_is_counted_on_classic_queues(lab):
    backend = await lab.open()
    await lab.submit(backend, lab.message())
    counts = []
    for _ in range(4):
        doomed = await lab.open()
        (delivery,) = await lab.receive(doomed.consumer(["q"]))
        counts.append(delivery.delivery_count)
        await doomed.aclose()
    assert counts == [1, 2, 3, 4]


async def test_quorum_queues_count_by_themselves(lab):
    """Beyond the limit, too, from which on RabbitMQ 4 drops messages where nobody says otherwise."""
    backend = await lab.open(queue_type="quorum")
    await lab.submit(backend, lab.message())
    consumer = backend.consumer(["q"])
    counts = []
    for _ in range(25):
        (delivery,) = await lab.receive(consumer)
        counts.append(delivery.delivery_count)
        await lab.settle(consumer, Verdict.NACK, delivery)
    assert counts == list(range(1, 26))


@task(name="bad-servers.echo", queue="q")
def echo(value: object) -> object:
    return value


async def test_a_bare_amqp_url_answers_who_submitted_and_tells_others_what_they_need(lab):
    worker = Worker(lab.url(), tasks=[echo])
    serving = lab.start(worker.serve())
    # Two namespaces of options share no link: another client, as in another process.
    async with AsyncClient(lab.url()) as client, AsyncClient(lab.url(client_name="other")) as stranger:
        handle = await client.submit(echo, 1)
        assert await handle.result(WITHIN) == 1
        assert await client.handle(handle.id).result(WITHIN) == 1, "asked twice, from what is remembered"
        many = await client.submit_many(echo.call(number) for number in range(50))
        assert sorted([await one.result(5) async for one in client.as_completed(many, timeout=WITHIN)]) == list(
            range(50)
        )
        with pytest.raises(UnsupportedError, match="TRANSHIP_RESULT_URL"):
            await stranger.handle(handle.id).result(5)
        with pytest.raises(UnsupportedError, match="TRANSHIP_RESULT_URL"):
            await stranger.handle(handle.id).state()
        mixed = [await stranger.submit(echo, "own"), stranger.handle(handle.id)]
        own, foreign = await asyncio.gather(*(one.result(WITHIN) for one in mixed), return_exceptions=True)
        assert own == "own"
        assert isinstance(foreign, UnsupportedError)
    worker.stop()
    await serving
