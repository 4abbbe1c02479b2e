"""From options to envelopes: what is constant is worked out once, what a call adds is filled in fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tranship.envelope import NO_HEADERS, Draft, Envelope, new_id
from tranship.task._context import TaskContext
from tranship.task._options import TaskOptions

__all__ = ["Plan"]


class Plan:
    """How one task is submitted with one set of options."""

    __slots__ = ("_deadline", "_deadline_in", "_delay", "_not_before", "_same", "_task_id", "is_uniform")

    def __init__(self, name: str, options: TaskOptions) -> None:
        self._task_id = options.task_id
        self._deadline: Any = options.deadline
        self._deadline_in: Any = options.deadline_in
        self._not_before: Any = options.not_before
        self._delay: Any = options.delay
        own = (options.task_id, options.cancel_key, options.dedup_key, options.dedup_window)
        moments = (options.deadline, options.deadline_in, options.not_before, options.delay)
        # A mapping of the caller's, though empty now, may have headers in it later.
        self.is_uniform = all(one is None for one in (*own, *moments)) and options.headers is NO_HEADERS
        """Whether its envelopes differ in nothing but id and arguments, unless they have a parent."""
        self._same = (
            name,
            options.queue,
            options.level,
            options.run_timeout,
            options.cancel_key,
            options.persistent_output,
            options.dedup_key,
            options.dedup_window,
            options.retry,
            options.store_result,
            options.result_ttl,
            options.headers,
            options.content_type,
        )

    def envelope(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        now: float,
        reply_to: str | None,
        parent: TaskContext | None,
        *,
        fresh_id: str | None,
    ) -> Envelope:
        """Return the envelope of one call at ``now``."""
        draft: Any = Draft()
        draft.id = self._task_id or fresh_id or new_id()
        draft.args = args
        draft.kwargs = kwargs
        draft.deadline = self._deadline if self._deadline_in is None else now + self._deadline_in
        draft.not_before = self._not_before if self._delay is None else now + self._delay
        draft.attempt = 0
        draft.reply_to = reply_to
        draft.group_id = draft.parent_id = draft.root_id = None
        # The order in which the constructor packed them.
        (
            draft.task,
            draft.queue,
            draft.priority,
            draft.run_timeout,
            draft.cancel_key,
            draft.persistent_output,
            draft.dedup_key,
            draft.dedup_window,
            draft.retry,
            draft.store_result,
            draft.result_ttl,
            draft.headers,
            draft.content_type,
        ) = self._same
        if parent is not None:
            _descend(draft, parent)
        envelope: Envelope = draft.finish()
        return envelope


def _descend(draft: Any, parent: TaskContext) -> None:
    """A task that is submitted by a task: the family tree, and no more time than the parent has."""
    draft.parent_id, draft.root_id = parent.id, parent.root_id
    if parent.deadline is not None and (draft.deadline is None or parent.deadline < draft.deadline):
        draft.deadline = parent.deadline
