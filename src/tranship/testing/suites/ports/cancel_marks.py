"""What a control channel that knows marks promises: it sees what programs that know no tombstones have left."""

from __future__ import annotations

import uuid

from tranship.errors import ClosedError
from tranship.ports import CancelMarks, Capability, Signal
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["CancelMarkCases"]


class CancelMarkCases:
    """Marks; part of the control channel's suite."""

    @case(
        "cancel_marks_are_seen",
        level="capability",
        needs={Capability.CONTROL},
        rationale="what another program has cancelled is not run",
    )
    async def test_cancel_marks_are_seen(self, context: CaseContext) -> None:
        """Told of each key that is asked for, whoever left the mark, for as long as it is there; and not announced."""
        backend = await context.open()
        control = backend.control()
        if not isinstance(control, CancelMarks):
            context.skip("no other program leaves marks at this broker")
        if not context.harness.can("leave_mark"):
            context.lack("the harness leaves no marks")
        heard: list[Signal] = []
        await control.listen(heard.extend, worker="w-1")
        one, other = (f"job-{uuid.uuid4().hex}" for _ in range(2))
        assert list(await control.marked([one, other])) == [False, False]
        assert list(await control.marked([])) == []
        await context.harness.leave_mark(one)
        assert list(await control.marked([other, one, one])) == [False, True, True]
        await context.harness.take_mark(one)
        assert list(await control.marked([one])) == [False]
        assert heard == [], "a mark is told to nobody"
        await backend.aclose()
        try:
            await control.marked([one])
        except ClosedError:
            return
        raise AssertionError("a closed backend must not say that nothing is cancelled")
