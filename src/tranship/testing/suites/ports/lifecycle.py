"""Opening, closing, connections lost and found, and saying the truth about oneself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tranship.errors import BrokerRefused, BrokerUnreachable, ClosedError, InvalidURLError, TranshipError
from tranship.ports import Backend, Capability, Settlement, Tombstone, Verdict
from tranship.settings import BrokerURL
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.suites.ports.capabilities import CapabilityCases
from tranship.testing.suites.ports.open_resources import OpenResources, given_back
from tranship.testing.suites.ports.outage import OutageCases
from tranship.testing.suites.ports.recovery import need_restart, receive_again, settle_again, submit_again
from tranship.testing.suites.ports.silence import SilenceCases

__all__ = ["LifecycleSuite"]

_SECRET = "sw0rdf1sh"  # noqa: S105 - made up, and looked for in texts


class _Closing:
    """The end of a backend."""

    @case("close_idempotent_and_while_blocked", level="core", rationale="a shutdown must not hang in an idle receive()")
    async def test_close_idempotent_and_while_blocked(self, context: CaseContext) -> None:
        """Closed while a receive waits, twice, and without ever having been opened."""
        backend = await context.open()
        blocked = context.start(backend.consumer(["q"]).receive(1, 60.0))
        await asyncio.sleep(0)
        started = time.monotonic()
        await backend.aclose()
        await context.wait_for(blocked, context.patience)
        assert blocked.done(), "receive() still waits after aclose()"
        assert time.monotonic() - started < context.patience / 2
        error = blocked.exception()
        assert isinstance(error, ClosedError) or not blocked.result().deliveries
        await backend.aclose()
        never_opened = context.make()
        await never_opened.aclose()
        await never_opened.aclose()

    @case("consumer_close_while_blocked", level="core", rationale="one consumer ends; its backend goes on")
    async def test_consumer_close_while_blocked(self, context: CaseContext) -> None:
        """The waiting call returns or raises ClosedError, a later one raises it, other consumers work."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        blocked = context.start(consumer.receive(1, 60.0))
        await asyncio.sleep(0)
        await consumer.aclose()
        await context.wait_for(blocked, context.patience)
        assert blocked.done(), "receive() still waits after aclose()"
        assert isinstance(blocked.exception(), ClosedError) or not blocked.result().deliveries
        await consumer.aclose()
        assert await _closed(consumer.receive(1, 0.0)), "a closed consumer received"
        ids = await context.submit(backend, context.message())
        assert await context.drain(backend.consumer(["q"]), 1) == ids

    @case("used_after_close", level="core", rationale="a forgotten reference must be told, not served or hung")
    async def test_used_after_close(self, context: CaseContext) -> None:
        """Every port raises ClosedError after its backend was closed."""
        backend = await context.open()
        consumer, submitter, inspector = backend.consumer(["q"]), backend.submitter(), backend.inspector()
        calls = [lambda: consumer.receive(1, 0.0), lambda: submitter.submit([context.message()]), backend.ping]
        if backend.capabilities.has(Capability.RESULTS):
            store = backend.results()
            calls += [lambda: store.put([context.result("a", 1)]), lambda: store.get_many(["a"])]
            calls += [lambda: store.forget_many(["a"])]
        if backend.capabilities.has(Capability.CONTROL):
            control = backend.control()
            calls += [lambda: control.cancel([Tombstone(kind="id", value="a", expires=time.time() + 9)])]
        if backend.capabilities.has(Capability.INSPECT_DEPTH):
            calls += [inspector.queues]
        await backend.aclose()
        assert [await _closed(call()) for call in calls] == [True] * len(calls)
        assert await _closed(_use(backend)), "a closed backend handed out a consumer that works"

    @case("no_leaked_connections_after_close", level="core", rationale="a leak per client is an outage per week")
    async def test_no_leaked_connections_after_close(self, context: CaseContext) -> None:
        """Ten backends, used and closed: connections, files, threads and tasks are back where they were."""
        await _use_and_close(context)
        before = await OpenResources.now(context)
        for _ in range(10):
            await _use_and_close(context)
        await given_back(context, before)

    @case("ping_answers", level="core", rationale="a health check must tell a live broker from a dead one")
    async def test_ping_answers(self, context: CaseContext) -> None:
        """It returns while the backend is open; the backend tells its name and url."""
        backend = await context.open()
        await backend.ping()
        await backend.ensure(["q"])
        await backend.ensure(["q"])
        assert backend.name
        assert backend.url.startswith(BrokerURL.parse(context.url()).scheme)


class _Separating:
    """Names and secrets."""

    @case("namespace_isolation", level="core", rationale="staging must not run production's tasks")
    async def test_namespace_isolation(self, context: CaseContext) -> None:
        """The same queue, id, key and worker names in two namespaces never meet."""
        here, there = await context.open(), await context.open(namespace=f"{context.namespace}-2")
        if here.capabilities.has(Capability.CONTROL):
            await there.control().cancel([Tombstone(kind="id", value="same-1", expires=time.time() + 60)])
        ids = await context.submit(here, context.message(id="same-1"))
        elsewhere = there.consumer(["q"])
        await context.quiet(elsewhere, 0.3)
        if here.capabilities.has(Capability.RESULTS):
            await there.results().put([context.result("same-1", "theirs")])
            assert not (await here.results().get_many(["same-1"]))[0].state.terminal
        if here.capabilities.has(Capability.INSPECT_DEPTH):
            assert list(await there.inspector().queues()) == []
        assert await context.drain(here.consumer(["q"]), 1) == ids

    @case("url_roundtrip_and_redaction", level="core", rationale="a password in a log is a password lost")
    async def test_url_roundtrip_and_redaction(self, context: CaseContext) -> None:
        """The backend's url can be read again; a password in a URL shows up in no text of ours."""
        backend = await context.open()
        parsed = BrokerURL.parse(backend.url)
        assert parsed.scheme == BrokerURL.parse(context.url()).scheme
        secret = BrokerURL.parse(context.url()).password
        for text in (backend.url, repr(backend), str(backend)):
            # With the colon: a password may be the user's name, too.
            assert secret is None or f":{secret}@" not in text
        for text in _texts_with_secret(context):
            assert _SECRET not in text, f"the password is in {text.replace(_SECRET, '<password>')!r}"

    @case("auth_failure_is_permanent", level="core", rationale="a wrong password is not an outage to wait out")
    async def test_auth_failure_is_permanent(self, context: CaseContext) -> None:
        """BrokerRefused, not retryable, at once; by what the broker's library said, and without the password."""
        if context.harness.refused_url is None:
            context.lack("the harness has no refused_url")
        backend = context.harness.make_backend(context.harness.refused_url)
        try:
            await asyncio.wait_for(backend.open(), context.patience)
        except BrokerRefused as error:
            refused: TranshipError | None = error
        else:
            refused = None
        finally:
            await backend.aclose()
        assert refused is not None, "the broker let us in"
        assert not refused.retryable
        secret = BrokerURL.parse(context.harness.refused_url).password
        for one in _with_causes(refused):
            assert not secret or secret not in f"{one!s} {one!r}", f"the password is in a {type(one).__name__}"
        if context.harness.native_errors:
            assert refused.__cause__ is not None, "what the broker's own library said is not the error's cause"


class _Reconnecting:
    """A broker that goes and comes back."""

    @case("reconnect_consume", level="core", rationale="workers must outlive a broker's restart")
    async def test_reconnect_consume(self, context: CaseContext) -> None:
        """Restarted while a receive waits: it brings what comes later, or says so; the same consumer goes on."""
        need_restart(context)
        backend = await context.open()
        consumer = backend.consumer(["q"])
        waiting = context.start(consumer.receive(1, 60.0))
        await context.wait_for(waiting, 0.2)
        await context.harness.restart()
        ids = await submit_again(context, backend)
        await context.wait_for(waiting, context.patience)
        assert waiting.done(), "receive() slept through the restart and the message that came after it"
        (received,) = await asyncio.gather(waiting, return_exceptions=True)
        if isinstance(received, BaseException):
            assert isinstance(received, BrokerUnreachable), repr(received)
            assert await receive_again(context, consumer) == ids
        else:
            assert ids_of(received.deliveries) == ids
            await settle_again(context, consumer, [Settlement(one, Verdict.ACK) for one in received.deliveries])
        assert await submit_again(context, backend) == await receive_again(context, consumer)

    @case("reconnect_publish", level="core", rationale="submitters must outlive a broker's restart")
    async def test_reconnect_publish(self, context: CaseContext) -> None:
        """After a restart a submit says unknown, unreachable, or succeeds; soon it succeeds, and the message comes."""
        need_restart(context)
        backend = await context.open()
        await context.submit(backend, context.message(queue="before"))
        await context.harness.restart()
        ids = await submit_again(context, backend)
        assert await receive_again(context, (await context.open()).consumer(["q"])) == ids


class LifecycleSuite(_Closing, _Separating, _Reconnecting, OutageCases, SilenceCases, CapabilityCases):
    """Everything about a backend's life."""


async def _closed(call: object) -> bool:
    """Whether awaiting ``call`` raises ClosedError, by itself or as the answer for an item."""
    try:
        answer = await call  # type: ignore[misc]  # calls of every port, whatever they return
    except ClosedError:
        return True
    return isinstance(answer, list) and bool(answer) and isinstance(answer[0], ClosedError)


async def _use(backend: Backend) -> None:
    await backend.consumer(["q"]).receive(1, 0.0)


async def _use_and_close(context: CaseContext) -> None:
    backend = await context.open()
    await context.submit(backend, context.message())
    consumer = backend.consumer(["q"])
    await context.settle(consumer, Verdict.ACK, *await context.receive(consumer))
    if backend.capabilities.has(Capability.RESULT_PUSH):
        backend.results().attach(lambda _results: None)
        backend.results().expect(["a"])
    if backend.capabilities.has(Capability.CONTROL):
        await backend.control().listen(lambda _signals: None, worker="w")
    await backend.aclose()


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _texts_with_secret(context: CaseContext) -> list[str]:
    scheme, _, rest = context.url().partition("://")
    place = rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest
    try:
        backend = context.harness.make_backend(f"{scheme}://user:{_SECRET}@{place}")
    except InvalidURLError as error:
        return [str(error), repr(error)]
    return [backend.url, repr(backend), str(backend)]
