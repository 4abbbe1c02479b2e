"""The same task twice: by its id, by its dedup key."""

from __future__ import annotations

from tranship.envelope import Receipt
from tranship.ports import Capability, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["DedupCases"]


class DedupCases:
    """Part of the submitter's suite."""

    @case(
        "submit_again_is_recognised",
        level="capability",
        needs={Capability.RETRY_SAFE},
        rationale="after an answer that was lost the core submits again; the task must not run twice",
    )
    async def test_submit_again_is_recognised(self, context: CaseContext) -> None:
        """The same message again with check_id: while queued, while held, and when new."""
        backend = await context.open()
        checked = backend.capabilities[Capability.RETRY_SAFE].properties.get("among") == "checked"
        first, again = context.message(id="same-1", check_id=checked), context.message(id="same-1", check_id=True)
        await context.submit(backend, first)
        assert await backend.submitter().submit([again]) == [Receipt("same-1", duplicate_of="same-1")]
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer)
        assert await backend.submitter().submit([again]) == [Receipt("same-1", duplicate_of="same-1")]
        await context.settle(consumer, Verdict.ACK, *held)
        await context.quiet(consumer, 0.2)
        fresh = await context.submit(backend, context.message(check_id=True))
        assert await context.drain(consumer, 1) == fresh

    @case(
        "submit_again_after_result",
        level="capability",
        needs={Capability.RETRY_SAFE, Capability.RESULTS},
        rationale="the task may have finished before the submitter tries again",
    )
    async def test_submit_again_after_result(self, context: CaseContext) -> None:
        """A task that has a result is recognised too."""
        backend = await context.open()
        (task_id,) = await context.submit(backend, context.message())
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer)
        assert await backend.results().put([context.result(task_id, 1)]) == [True]
        await context.settle(consumer, Verdict.ACK, *held)
        answers = await backend.submitter().submit([context.message(id=task_id, check_id=True)])
        assert answers == [Receipt(task_id, duplicate_of=task_id)]
        await context.quiet(consumer, 0.2)

    @case(
        "submit_dedup_window",
        level="capability",
        needs={Capability.KEY_WINDOW},
        rationale="a double click must not run the job twice",
    )
    async def test_submit_dedup_window(self, context: CaseContext) -> None:
        """The same key inside the window, in the same batch, from elsewhere, after it ran, for another queue: one
        delivery.
        """
        backend, other = await context.open(), await context.open()
        first, twin, late = (context.message(dedup_key="order-1", dedup_window=60.0) for _ in range(3))
        elsewhere = context.message(queue="p", dedup_key="order-1", dedup_window=60.0)
        duplicate_of = first.envelope.id
        assert await backend.submitter().submit([first, twin]) == [
            Receipt(duplicate_of),
            Receipt(twin.envelope.id, duplicate_of=duplicate_of),
        ]
        (other_key,) = await context.submit(other, context.message(dedup_key="order-2", dedup_window=60.0))
        consumer = backend.consumer(["q"])
        assert sorted(await context.drain(consumer, 2)) == sorted([duplicate_of, other_key])
        for again in (late, elsewhere):
            answers = await other.submitter().submit([again])
            assert answers == [Receipt(again.envelope.id, duplicate_of=duplicate_of)]
        await context.quiet(consumer, 0.2)

    @case(
        "submit_dedup_after_window",
        level="capability",
        needs={Capability.KEY_WINDOW},
        rationale="a key that stays taken for ever stops tomorrow's job",
    )
    async def test_submit_dedup_after_window(self, context: CaseContext) -> None:
        """After the window the key is free again: the message's own, where windows are per task."""
        per_task = (await context.capabilities())[Capability.KEY_WINDOW].properties.get("window") == "per-task"
        backend = await context.open(dedup_window=3600.0 if per_task else 1.0)
        (first,) = await context.submit(backend, context.message(dedup_key="order-1", dedup_window=1.0))
        submitter = backend.submitter()

        async def accepted() -> str | None:
            message = context.message(dedup_key="order-1", dedup_window=60.0)
            (answer,) = await submitter.submit([message])
            assert isinstance(answer, Receipt), answer
            assert answer.duplicate_of in {None, first}, answer
            return message.envelope.id if answer.duplicate_of is None else None

        assert await accepted() is None, "the key was free inside its window"
        second = await context.eventually(accepted, "the key is free after its window of 1 s")
        deliveries = await context.receive(backend.consumer(["q"]), 2)
        assert sorted(ids_of(deliveries)) == sorted([first, str(second)])
