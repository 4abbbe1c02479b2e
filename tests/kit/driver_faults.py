"""The driver kit with one fault each, and the promise that has to break because of it.

A fault is a few words in one method, replaced: what a hasty change to the kit may look like.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from driver import scenarios
from driver.crashes import Scenario
from tranship.driver._consumer import DriverConsumer
from tranship.driver._dead import DeadLetters
from tranship.driver._dedup import Dedup
from tranship.driver._delay import Delays
from tranship.driver._removal import Removal
from tranship.driver._results import DriverResults
from tranship.driver._settling import Settling
from tranship.driver._submitter import DriverSubmitter


@dataclass(frozen=True)
class DriverFault:
    """One way for the kit to be wrong."""

    name: str
    caught_by: Scenario
    owner: type
    method: str
    right: str
    wrong: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the kit be wrong for a while."""
        original = inspect.getattr_static(self.owner, self.method)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.right) == 1, f"{self.method} says {self.right!r} {source.count(self.right)} times"
        made: dict[str, object] = {}
        exec(source.replace(self.right, self.wrong), original.__globals__, made)
        with patch.object(self.owner, self.method, made[self.method]):
            yield


FAULTS = (
    DriverFault(
        "settles without proof",
        scenarios.zombie_writes_nothing,
        Settling,
        "_not_ours",
        "if not heavy or not isinstance(queue, Renewing):",
        "if True:",
    ),
    DriverFault(
        "keeps a lost one's dead letter",
        scenarios.lost_between_proof_and_end,
        Settling,
        "_end_apart",
        "if answers[taken] is Settled.LOST and taken not in unsure",
        "if False",
    ),
    DriverFault(
        "ends before it stores",
        scenarios.acknowledged,
        Settling,
        "_end_apart",
        "    await self._rows.create(",
        "    await self._end({taken: Ending(one.token, one.end) for taken, one in ours.items()})\n"
        "    await self._rows.create(",
    ),
    DriverFault(
        "stores anew when settled again",
        scenarios.rejected,
        Settling,
        "_ending",
        "DeadLetters.row(taken, settlement)",
        "DeadLetters.row(type(taken)(taken.token, taken.queue, taken.priority, taken.data), settlement)",
    ),
    DriverFault(
        "ends what it could not send",
        scenarios.refused_one_harms_no_other,
        Settling,
        "_send",
        "if isinstance(answer, TranshipError)",
        "if False",
    ),
    DriverFault(
        "one's own key is a duplicate",
        scenarios.deduplicated,
        Dedup,
        "known",
        "other is not None and other != row.value",
        "other is not None",
    ),
    DriverFault(
        "notes as sent before it is",
        scenarios.deduplicated,
        Dedup,
        "known",
        "duplicates = self._twins(messages)",
        "duplicates = self._twins(messages)\n"
        "    if sent := await self._sent_before(messages): return sent\n"
        "    await self._rows.put([Row(f'i/{one.envelope.id}', SENT) for one in messages.values()])",
    ),
    DriverFault(
        "keeps the key of what was refused",
        scenarios.refused_frees_its_key,
        Dedup,
        "told",
        "if _is_refused(answer)]",
        "if False]",
    ),
    DriverFault(
        "deletes before it forwards",
        scenarios.forwarded,
        Delays,
        "forward",
        "    answers = await",
        "    await self.remove(claimed)\n    answers = await",
    ),
    DriverFault(
        "forwards what others forward",
        scenarios.forwarded_by_one,
        Delays,
        "_forward_due",
        "await self.forward(await self.claim(due))",
        "await self.forward(due)",
    ),
    DriverFault(
        "drops a cancelled receive's take",
        scenarios.cancelled_receive_loses_nothing,
        DriverConsumer,
        "_take",
        "self._buffer.put(together)",
        "self._buffer.put(together if self._receiver.busy else [])",
    ),
    DriverFault(
        "closes with a full buffer",
        scenarios.closed_consumer_gives_back,
        DriverConsumer,
        "_give_up",
        "[*self._buffer.clear(), *(in_flight if reader is None else ())]",
        "in_flight",
    ),
    DriverFault(
        "does not read UNKNOWN again",
        scenarios.ending_task_is_not_unknown,
        DriverResults,
        "_get_many",
        "if states[one] is TaskState.UNKNOWN",
        "if False",
    ),
    DriverFault(
        "a lost answer is a no",
        scenarios.submitted,
        DriverSubmitter,
        "_failed",
        "return _each_failed(messages, error)",
        "return {at: _about(one, error) for at, one in messages.items()}",
    ),
    DriverFault(
        "cancels without a result",
        scenarios.cancelled,
        Removal,
        "_remove",
        "await self._keep(results)",
        "pass",
    ),
    DriverFault(
        "replays without a letter",
        scenarios.replayed,
        DeadLetters,
        "replay",
        "await send(message, letter)",
        "await self._remove([letter.id]); await send(message, letter)",
    ),
)
