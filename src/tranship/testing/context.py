"""What one case works with: a namespace of its own, backends that are closed for it, and bounded waiting."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

from tranship.driver import Connection, DriverBackend
from tranship.envelope import Envelope, Receipt, TaskResult, TaskState, new_id
from tranship.errors import TranshipError
from tranship.ports import (
    Backend,
    Capabilities,
    Capability,
    Consumer,
    Delivery,
    Level,
    Settled,
    Settlement,
    StoredResult,
    Verdict,
)
from tranship.protocol import Encoder, Message, encode_result
from tranship.testing.harness import Harness
from tranship.testing.process import Child
from tranship.testing.proxy import FaultProxy

__all__ = ["CaseContext", "CaseSkipped", "HarnessLacks"]

T = TypeVar("T")

_LOOK = 0.01
_OF_RESULTS: Final = (Capability.RESULTS, Capability.RESULT_PUSH, Capability.RESULT_TTL, Capability.RECORDS)


class CaseSkipped(Exception):
    """The case does not apply here; the message says why."""


class HarnessLacks(CaseSkipped):
    """The case applies, and the harness cannot do what it takes; such cases are told at the end of a run."""


class CaseContext:
    """The tools of one case, on one loop. Everything it opened is closed and checked at the end."""

    def __init__(self, harness: Harness, case_id: str) -> None:
        self.harness = harness
        self.namespace: str = f"{re.sub('[^a-z0-9]', '-', case_id)[:40]}-{secrets.token_hex(4)}"
        self._encoder = Encoder()
        self._backends: list[Backend] = []
        self._connections: list[Connection] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._children: list[Child] = []
        self._proxies: list[FaultProxy] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._troubles: list[str] = []
        self._capabilities: Capabilities | None = None

    def begin(self) -> Self:
        """Note from now on what goes wrong on the loop that runs."""
        asyncio.get_running_loop().set_exception_handler(self._note_trouble)
        return self

    async def __aenter__(self) -> Self:
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose(check=kind is None)

    async def aclose(self, *, check: bool) -> None:
        """Close what the case has opened.

        Args:
            check: insist that nothing is left over then.

        Raises:
            AssertionError: something is.
        """
        await self._clean_up()
        if check:
            await self._check_leaks()

    def at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have ``close`` called at the end, before everything else is closed; of several the last one first."""
        self._closers.append(close)

    @property
    def patience(self) -> float:
        """Seconds after which something that must happen has not happened."""
        return self.harness.patience

    # Backends.

    async def open(self, *, namespace: str | None = None, via: FaultProxy | None = None, **options: Any) -> Backend:
        """Open another backend on the case's namespace, with URL options such as ``lease=0.5``.

        ``via`` is a :meth:`proxy` to connect through.
        """
        backend = self.make(namespace=namespace, via=via, **options)
        await backend.open()
        return backend

    def make(self, *, namespace: str | None = None, via: FaultProxy | None = None, **options: Any) -> Backend:
        """Return a backend that is not opened; it is closed at the end all the same."""
        backend = self.harness.make_backend(self.url(namespace=namespace, via=via, **options))
        self._backends.append(backend)
        return backend

    async def connect(self, **options: Any) -> Connection:
        """Open a connection of the driver behind the backend, to use its primitives; closed at the end.

        Raises:
            CaseSkipped: the backend is not made of primitives.
        """
        backend = self.make(**options)
        if not isinstance(backend, DriverBackend):
            self.skip(f"{backend.name} is not made of the primitives of tranship.driver")
        connection = await backend.connect()
        self._connections.append(connection)
        return connection

    def url(self, *, namespace: str | None = None, via: FaultProxy | None = None, **options: Any) -> str:
        """Return the URL under which other processes find the same queues.

        Through a proxy, silence is noticed as soon as the harness can have it.
        """
        if via is None:
            return self.harness.url(namespace or self.namespace, options)
        return via.url_for(self.harness.url(namespace or self.namespace, {**self.harness.impatient, **options}))

    def results_url(self) -> str:
        """Return the URL at which clients and workers under test keep results."""
        elsewhere = self.harness.results
        return self.url() if elsewhere is None else elsewhere.url(self.namespace, {})

    def proxy(self) -> FaultProxy:
        """Start a proxy between backends and the broker; it is stopped at the end.

        Raises:
            CaseSkipped: there is no wire between them.
        """
        proxy = self.harness.make_proxy()
        if proxy is None:
            self.skip("the broker is not reached over a wire: its URL has no host and port")
        self._proxies.append(proxy.start())
        return proxy

    async def capabilities(self) -> Capabilities:
        """What the backend says it can do; with results elsewhere, what both can do together."""
        if self._capabilities is None:
            probe = await self.open()
            self._capabilities = probe.capabilities
            await probe.aclose()
            if self.harness.results is not None:
                store = await self.open_results()
                self._capabilities = _together(self._capabilities, store.capabilities)
                await store.aclose()
        return self._capabilities

    async def open_results(self, *, namespace: str | None = None) -> Backend:
        """Open a backend of the broker that clients and workers keep results at, on the case's namespace."""
        if (elsewhere := self.harness.results) is None:
            return await self.open(namespace=namespace)
        backend = elsewhere.make_backend(elsewhere.url(namespace or self.namespace, {}))
        self._backends.append(backend)
        await backend.open()
        return backend

    async def has(self, capability: Capability) -> bool:
        """Whether the backend declares ``capability``."""
        return (await self.capabilities()).has(capability)

    async def need(self, needs: Collection[Capability]) -> None:
        """Skip the case unless everything in ``needs`` is declared.

        Raises:
            CaseSkipped: something is not.
        """
        if needs:
            capabilities = await self.capabilities()
            missing = sorted(capability.value for capability in needs if not capabilities.has(capability))
            if missing:
                self.skip(f"capability none: {', '.join(missing)}")

    def skip(self, reason: str) -> NoReturn:
        """End the case here; it does not apply.

        Raises:
            CaseSkipped: always.
        """
        raise CaseSkipped(reason)

    def lack(self, reason: str) -> NoReturn:
        """End the case here: what it takes, the harness cannot do. Where there is no server, nobody can.

        Raises:
            CaseSkipped: there is no server.
            HarnessLacks: there is one.
        """
        if self.harness.make_proxy() is None:
            self.skip(reason)
        raise HarnessLacks(reason)

    async def child(self, action: str, **arguments: Any) -> Child:
        """Start a process that uses the backend by URL; it is killed at the end.

        ``wrong_by`` is by how many seconds its wall clock is to be ahead of ours.
        """
        child = await Child.start(action, arguments, quiet=self.harness.quiet)
        self._children.append(child)
        return child

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something beside the case; it is cancelled at the end."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        return task

    # Messages.

    def message(self, *, check_id: bool = False, **envelope: Any) -> Message:
        """Encode a message for queue ``q``; keyword arguments are the envelope's fields."""
        fields = {"id": new_id(), "task": "conformance.echo", "queue": "q", **envelope}
        message = self._encoder.encode(Envelope(**fields))
        message.check_id = check_id
        return message

    def messages(self, count: int, **envelope: Any) -> list[Message]:
        """Encode several, with their number as argument."""
        return [self.message(args=(number,), **envelope) for number in range(count)]

    def result(self, task_id: str, value: Any = None, *, ttl: float | None = None, **fields: Any) -> StoredResult:
        """Encode a terminal result, a success unless ``state`` says otherwise."""
        document = TaskResult(**{"id": task_id, "state": TaskState.SUCCESS, "value": value, **fields})
        return StoredResult(id=task_id, state=document.state, document=encode_result(document), ttl=ttl)

    # Steps that must succeed.

    async def submit(self, backend: Backend, *messages: Message) -> list[str]:
        """Submit, insist on a receipt for each, and return the ids."""
        answers = await backend.submitter().submit(messages)
        assert len(answers) == len(messages), f"{len(answers)} answers for {len(messages)} messages"
        for message, answer in zip(messages, answers, strict=True):
            assert answer == Receipt(message.envelope.id), (
                f"expected a receipt for {message.envelope.id}, got {answer!r}"
            )
        return [message.envelope.id for message in messages]

    async def receive(self, consumer: Consumer, count: int = 1, *, within: float | None = None) -> list[Delivery]:
        """Collect exactly ``count`` deliveries, or fail after ``within`` seconds (None: its patience)."""
        loop = asyncio.get_running_loop()
        within = within or self.patience
        end = loop.time() + within
        got: list[Delivery] = []
        while len(got) < count:
            left = end - loop.time()
            assert left > 0, f"{len(got)} of {count} deliveries came within {within} s"
            got += (await consumer.receive(count - len(got), left)).deliveries
        return got

    async def drain(self, consumer: Consumer, count: int, *, within: float | None = None) -> list[str]:
        """Collect exactly ``count`` deliveries, acknowledge them, and return their tasks' ids in order."""
        ids: list[str] = []
        end = time.monotonic() + (within or self.patience)
        while len(ids) < count:
            batch = await self.receive(consumer, within=end - time.monotonic())
            await self.settle(consumer, Verdict.ACK, *batch)
            ids += map(task_id, batch)
        return ids

    async def quiet(self, consumer: Consumer, seconds: float) -> None:
        """Insist that nothing is delivered for ``seconds``."""
        received = await consumer.receive(10, seconds)
        ids = [task_id(delivery) for delivery in received.deliveries]
        assert not ids, f"nothing more was to be delivered, but {ids} came"

    async def settle(self, consumer: Consumer, verdict: Verdict, *deliveries: Delivery, **extra: Any) -> None:
        """Settle all with one verdict and insist that it was done."""
        answers = await consumer.settle([Settlement(delivery, verdict, **extra) for delivery in deliveries])
        done = {Settled.CONFIRMED, Settled.SENT}
        assert len(answers) == len(deliveries), f"{len(answers)} answers for {len(deliveries)} settlements"
        assert set(answers) <= done, f"{verdict} was to be done, got {answers}"

    async def eventually(self, condition: Callable[[], Awaitable[T]], what: str, *, within: float | None = None) -> T:
        """Ask until ``condition`` is true and return what it gave, or fail after ``within`` seconds."""
        within = within or self.patience
        end = asyncio.get_running_loop().time() + within
        while True:
            value = await condition()
            if value:
                return value
            assert asyncio.get_running_loop().time() < end, f"{what}: not within {within} s"
            await asyncio.sleep(_LOOK)

    async def wait_for(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Return when ``task`` is done, or after ``seconds``."""
        await asyncio.wait({task}, timeout=seconds)

    async def pass_time(self, seconds: float) -> None:
        """Let a time pass whose end the case is about, such as a lease; never to let things settle."""
        await asyncio.sleep(seconds)

    # The end.

    def _note_trouble(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._troubles.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _clean_up(self) -> None:
        try:
            while self._closers:
                await self._closers.pop()()
        finally:
            await self._close_all()

    async def _close_all(self) -> None:
        for child in self._children:
            await child.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            await connection.aclose()
        for backend in self._backends:
            await backend.aclose()
        for proxy in self._proxies:
            proxy.stop()

    async def _check_leaks(self) -> None:
        current = asyncio.current_task()

        def left_over() -> list[str]:
            return [repr(task) for task in asyncio.all_tasks() if task is not current]

        async def nothing_left() -> bool:
            return not left_over()

        try:
            await self.eventually(nothing_left, "every task ends when its backend is closed", within=2.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; still running: {left_over()}") from None
        assert not self._troubles, f"errors reached the event loop: {self._troubles}"


def _together(broker: Capabilities, store: Capabilities) -> Capabilities:
    """What a broker and a result store can do that know nothing of each other."""
    joint = {**broker, **{capability: store[capability] for capability in _OF_RESULTS}}
    # Neither knows what the other has, or can act for it in the same step.
    return Capabilities({**joint, Capability.KNOWS_IDS: Level.NONE, Capability.FUSED_SETTLE: Level.NONE})


def task_id(delivery: Delivery) -> str:
    """Return the id of a delivered task without a full decode."""
    return str(header(delivery, "id"))


def header(delivery: Delivery, name: str) -> Any:
    """Return one wire header of a delivery."""
    return headers_of(delivery).get(name)


def headers_of(delivery: Delivery) -> dict[str, Any]:
    """Return the wire headers of a delivery, whether the backend hands them over as bytes or as a mapping."""
    import json

    headers = delivery.message.headers
    return dict(json.loads(headers)) if isinstance(headers, bytes) else dict(headers)


def ids_of(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the tasks' ids in order."""
    return [task_id(delivery) for delivery in deliveries]


def errors_in(answers: Sequence[Receipt | TranshipError]) -> list[TranshipError]:
    """Return the answers that are errors."""
    return [answer for answer in answers if isinstance(answer, TranshipError)]
