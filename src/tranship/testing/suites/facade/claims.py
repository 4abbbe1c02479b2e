"""Claim checks: what is too large for a broker is kept elsewhere, and a claim travels in its place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tranship import codec
from tranship.envelope import Claim, Ending, Envelope, Receipt, TaskResult, TaskState
from tranship.errors import ClaimCheckError, MessageTooLarge
from tranship.middleware import Middleware, Next, RunCall, SettleCall
from tranship.outcomes import Outcome
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised

__all__ = ["ClaimCases", "Cloakroom", "cloakroom"]

RESULTS: Final = {Capability.RESULTS}
LARGE: Final = "x" * 6000
SMALL_BROKER: Final = 4096
"""Bytes of a message that clients and workers of a case may send at most."""


class Cloakroom(Middleware):
    """Keeps bodies and results of more than 1,000 bytes in a directory; for clients and workers.

    Attributes:
        settled: the endings whose values were kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.settled: list[SettleCall] = []

    def kept(self) -> list[str]:
        """What is there, by name: the id of its task, and body or result."""
        return sorted(path.name for path in self._directory.iterdir())

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        """Keep the arguments where they are too large."""
        claim = self._deposit([envelope.args, envelope.kwargs], f"{envelope.id}-body")
        return await call_next(envelope if claim is None else replace(envelope, args=(claim,), kwargs={}))

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Fetch the arguments."""
        if (claim := Claim.of(call.args)) is not None:
            args, kwargs = self._redeem(claim)
            call = replace(call, args=args, kwargs=kwargs)
        return await call_next(call)

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        """Keep the result where it is too large."""
        claim = self._deposit(call.value, f"{call.envelope.id}-result") if call.ending is Ending.SUCCEEDED else None
        if claim is not None:
            self.settled.append(call)
            call = replace(call, value=claim)
        await call_next(call)

    async def result(self, result: TaskResult, call_next: Next[TaskResult, TaskResult]) -> TaskResult:
        """Fetch the result."""
        if isinstance(result.value, Claim):
            result = replace(result, value=self._redeem(result.value))
        return await call_next(result)

    def _deposit(self, value: Any, name: str) -> Claim | None:
        written = codec.dumps(value, codec.JSON)
        if len(written) <= 1000:
            return None
        path = self._directory / name
        path.write_bytes(written)
        return Claim(path.as_uri(), len(written))

    def _redeem(self, claim: Claim) -> Any:
        return codec.loads((self._directory / claim.uri.rpartition("/")[2]).read_bytes(), codec.JSON)


@contextmanager
def cloakroom() -> Iterator[Cloakroom]:
    """One whose directory is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="tranship-kit-") as directory:
        yield Cloakroom(Path(directory))


@task(name="kit.twice_as_large", queue="q")
async def twice_as_large(text: str, *, more: list[int]) -> Any:
    """Runs on the loop; returns what is larger."""
    return [text * 2, more]


@task(name="kit.twice_as_large_thread", queue="q")
def twice_as_large_thread(text: str) -> Any:
    """Runs in a thread, and has a word for its result."""
    return Outcome("doubled", text * 2)


class ClaimCases:
    """Part of the facade's suite: large payloads by reference."""

    @facade_case(
        "claim_both_ways", level="capability", needs=RESULTS, rationale="a broker's limit is not a limit of the tasks"
    )
    async def test_claim_both_ways(self, facade: FacadeContext) -> None:
        """Bodies and results that are too large for the broker arrive whole, and those that are small go as they are:
        alone and in a batch, ``async def`` and ``def``, with a status.
        """
        options: dict[str, Any] = {"max_message_size": SMALL_BROKER}
        with cloakroom() as room:
            client = await facade.client(middleware=[room], **options)
            await facade.work(twice_as_large, twice_as_large_thread, middleware=[room], **options)
            alone = await client.submit(twice_as_large, LARGE, more=[1])
            assert await alone.result(facade.context.patience) == [LARGE * 2, [1]]
            batch = [
                twice_as_large_thread.call(LARGE),
                twice_as_large.call("a", more=[2]),
                twice_as_large.call("b" * 900, more=[3]),
            ]
            handles = await client.submit_many(batch)
            found = await client.collect(handles, facade.context.patience)
            assert [one.value for one in found] == [LARGE * 2, ["aa", [2]], ["b" * 1800, [3]]]
            assert found[0].status == "doubled"
            names = [f"{one.id}-{what}" for one in (alone, handles[0]) for what in ("body", "result")]
            assert room.kept() == sorted([*names, f"{handles[2].id}-result"])

    @facade_case(
        "claim_without_keeper",
        level="capability",
        needs=RESULTS,
        rationale="a reference is not the value it stands for",
    )
    async def test_claim_without_keeper(self, facade: FacadeContext) -> None:
        """A client or a worker that cannot fetch what a claim stands for says so: the client's caller gets an error,
        the worker's task is a dead letter and its handler is not called; others are not concerned.
        """
        with cloakroom() as room:
            client, plain = await facade.client(middleware=[room]), await facade.client()
            refused = await raised(
                (await facade.client(max_message_size=SMALL_BROKER)).submit(twice_as_large, LARGE, more=[]),
                MessageTooLarge,
            )
            assert refused.limit == SMALL_BROKER
            worker = await facade.work(twice_as_large)
            lost = await (await client.submit(twice_as_large, LARGE, more=[])).wait(facade.context.patience)
            assert lost.state is TaskState.DEAD_LETTERED
            assert lost.error is not None
            assert lost.error.code == ClaimCheckError.code
            assert await (await client.submit(twice_as_large, "a", more=[])).result(facade.context.patience) == [
                "aa",
                [],
            ]
            await facade.stop(worker)
            await facade.work(twice_as_large, middleware=[room])
            handle = await client.submit(twice_as_large, LARGE, more=[4])
            assert await handle.result(facade.context.patience) == [LARGE * 2, [4]]
            error = await raised(plain.handle(handle.id).result(facade.context.patience), ClaimCheckError)
            assert handle.id in str(error)
