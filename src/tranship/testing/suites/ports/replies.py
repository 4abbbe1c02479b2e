"""A broker that keeps no results brings them to who submitted, and says no to everybody else."""

from __future__ import annotations

from dataclasses import replace

from tranship.errors import UnsupportedError
from tranship.ports import Backend, Capability, Consumer, Verdict
from tranship.protocol import decode, decode_result
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.facades import raised
from tranship.testing.suites.ports.pushed_results import PushedResults
from tranship.testing.suites.ports.recovery import Events

__all__ = ["ReplyCases"]

_PUSH = frozenset({Capability.RESULT_PUSH})


class ReplyCases:
    """Part of the result store's suite."""

    @case(
        "result_pushed_to_submitter",
        level="capability",
        needs=_PUSH,
        rationale="somebody else's result is as bad as none, and no answer is worse than a refusal",
    )
    async def test_result_pushed_to_submitter(self, context: CaseContext) -> None:
        """Two submitters get what is theirs and nothing else; nobody can read what nobody keeps."""
        backend, stranger, worker = await context.open(), await context.open(), await context.open()
        _need_replies(context, backend)
        mine, theirs = PushedResults(backend.results(), context), PushedResults(stranger.results(), context)
        wanted = await context.submit(backend, *[context.message(reply_to=backend.address) for _ in range(3)])
        others = await context.submit(stranger, context.message(reply_to=stranger.address))
        await _answer(context, worker, worker.consumer(["q"]), 4)
        for inbox, ids in ((mine, wanted), (theirs, others)):
            for task_id in ids:
                assert decode_result((await inbox.get(task_id)).document, task_id=task_id).unwrap() == task_id
            assert inbox.ids() == set(ids)
        for one in (backend, stranger, worker):
            await raised(one.results().get_many(wanted), UnsupportedError)

    @case(
        "result_waits_for_submitter",
        level="capability",
        needs=_PUSH | {Capability.DURABLE},
        rationale="nobody can ask again for a result that came while the connection was away",
    )
    async def test_result_waits_for_submitter(self, context: CaseContext) -> None:
        """Answered while the submitter is cut off: it gets the result when it is back, and the next one, too."""
        proxy = context.proxy()
        backend, worker = await context.open(via=proxy), await context.open()
        _need_replies(context, backend)
        inbox, events, consumer = PushedResults(backend.results(), context), Events(backend), worker.consumer(["q"])
        (meanwhile,) = await context.submit(backend, context.message(reply_to=backend.address))
        proxy.refuse()
        proxy.reset()
        await events.lost(context)
        await _answer(context, worker, consumer, 1)
        proxy.refuse(False)
        await events.restored(context)
        await inbox.get(meanwhile)
        (later,) = await context.submit(backend, context.message(reply_to=backend.address))
        await _answer(context, worker, consumer, 1)
        await inbox.get(later)


def _need_replies(context: CaseContext, backend: Backend) -> None:
    if backend.capabilities.has(Capability.RESULTS):
        context.skip("results are kept, and pushed to whoever expects them")


async def _answer(context: CaseContext, worker: Backend, consumer: Consumer, count: int) -> None:
    """Do what a worker does with ``count`` tasks: the result, which is the task's id, and then the acknowledgement."""
    for delivery in await context.receive(consumer, count):
        envelope = decode(delivery.message, queue=delivery.queue, priority=delivery.priority)
        result = replace(context.result(envelope.id, envelope.id), reply_to=envelope.reply_to)
        assert list(await worker.results().put([result])) == [True]
        await context.settle(consumer, Verdict.ACK, delivery)
