"""Sentry: errors of tasks with what is known of the task, and check-ins of periodic tasks.

::

    sentry_sdk.init(dsn="...")
    worker = Worker(tasks=[charge, nightly], middleware=[Sentry(monitors=[nightly])])
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from tranship.envelope import Ending, Envelope
from tranship.middleware import Middleware, Next, RunCall, SettleCall
from tranship.schedules import SCHEDULE_HEADER, Schedule
from tranship.task import task_of
from tranship.timetable import Every, Timetable

__all__ = ["Sentry"]

MOST: Final = 10_000
"""Errors that are remembered until their delivery is settled; lost deliveries never are."""
_CHECK_INS: Final = uuid.UUID("6f6e0c1e-7a41-5d2f-9a3c-0b6f4f8e2d11")
_FAILED: Final = (Ending.FAILED, Ending.DEAD)
_BAD: Final = (*_FAILED, Ending.CANCELLED, Ending.EXPIRED)

Held = tuple[BaseException, sentry_sdk.Scope]


class Sentry(Middleware):
    """Tells Sentry of tasks that failed for good, and of the runs of schedules. For workers.

    While a handler runs, Sentry's scope has the task: whatever is captured in it, such as a log record of level ERROR,
    has the tags ``task``, ``queue``, ``attempt`` and the context ``tranship``. Arguments are not told: they may be
    personal.

    Args:
        monitors: schedules, or tasks with ``every=`` or ``cron=``, whose monitor at Sentry is made, or changed, with
            the first check-in; of other schedules it has to exist there under their name.
        retries: tell of attempts that are going to be repeated, too.
    """

    def __init__(self, *, monitors: Iterable[Any] = (), retries: bool = False) -> None:
        self._tells = (*_FAILED, Ending.RETRY) if retries else _FAILED
        self._monitors = dict(_monitor(one) for one in monitors)
        self._errors: OrderedDict[tuple[str, int], Held] = OrderedDict()

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Around one call of a handler."""
        context = call.context
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            _describe(scope, context.task, context.id, context.attempt, context.queue)
            self._check_in(context.id, context.headers, "in_progress")
            try:
                return await call_next(call)
            except Exception as error:
                # What becomes of it is not known yet.
                self._errors[context.id, context.attempt] = (error, scope)
                if len(self._errors) > MOST:
                    self._errors.popitem(last=False)
                raise

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        """Around the end of one delivery."""
        await call_next(call)
        envelope = call.envelope
        held = self._errors.pop((envelope.id, envelope.attempt), None)
        if call.ending in self._tells:
            _capture(call, held)
        if call.ending is Ending.SUCCEEDED:
            self._check_in(envelope.id, envelope.headers, "ok", call.duration)
        elif call.ending in _BAD:
            self._check_in(envelope.id, envelope.headers, "error", call.duration)

    def _check_in(self, task_id: str, headers: Mapping[str, Any], status: str, duration: float | None = None) -> None:
        name = headers.get(SCHEDULE_HEADER)
        if isinstance(name, str):
            sentry_sdk.crons.capture_checkin(
                monitor_slug=_slug(name),
                # The attempts of one tick, by whichever workers, are one check-in.
                check_in_id=uuid.uuid5(_CHECK_INS, task_id).hex,
                status=status,
                duration=duration,
                monitor_config=self._monitors.get(name),
            )


def _describe(scope: sentry_sdk.Scope, task: str, task_id: str, attempt: int, queue: str) -> None:
    scope.set_transaction_name(task, source="task")
    scope.set_tag("task", task)
    scope.set_tag("queue", queue)
    scope.set_tag("attempt", attempt)
    scope.set_context("tranship", {"task": task, "id": task_id, "attempt": attempt, "queue": queue})


def _capture(call: SettleCall, held: Held | None) -> None:
    envelope = call.envelope
    if held is not None:
        error, scope = held
        with sentry_sdk.scope.use_isolation_scope(scope):
            _send_exception(error, call)
        return
    with sentry_sdk.isolation_scope() as scope:
        _describe(scope, envelope.task, envelope.id, envelope.attempt, envelope.queue)
        _send_told(envelope, call)


def _send_exception(error: BaseException, call: SettleCall) -> None:
    mechanism = {"type": "tranship", "handled": call.ending is Ending.RETRY}
    options = sentry_sdk.get_client().options
    event, hint = event_from_exception(error, client_options=options, mechanism=mechanism)
    sentry_sdk.capture_event(event, hint=hint)


def _send_told(envelope: Envelope, call: SettleCall) -> None:
    """Tell of what no exception in this process explains: its process died, or nobody has such a task."""
    error = call.error
    kind, text = ("Failed", f"task {envelope.task} failed") if error is None else (error.type, error.message)
    values = [{"type": kind.rpartition(".")[2], "value": text, "mechanism": {"type": "tranship", "handled": False}}]
    sentry_sdk.capture_event({"level": "error", "exception": {"values": values}})


def _slug(name: str) -> str:
    return "".join(one if one.isalnum() or one in "-_" else "-" for one in name.lower())[:50]


def _monitor(given: Any) -> tuple[str, Any]:
    """Return the name of a schedule, and the configuration of its monitor; None: Sentry has no words for it."""
    if isinstance(given, Schedule):
        return given.name, _config(given.timetable)
    task = task_of(given)
    if task.timetable is None:
        raise ValueError(f"task {task.name} has no every= and no cron=; give tasks that have, or schedules")
    return task.name, _config(task.timetable)


def _config(timetable: Timetable) -> dict[str, Any] | None:
    when = timetable.when
    margin = max(1, round(sum(timetable.lateness) / 60))
    if isinstance(when, Every):
        minutes, rest = divmod(when.seconds, 60)
        if rest or not minutes:
            return None
        return {"schedule": {"type": "interval", "value": int(minutes), "unit": "minute"}, "checkin_margin": margin}
    schedule = {"type": "crontab", "value": when.expression}
    return {"schedule": schedule, "timezone": when.timezone, "checkin_margin": margin}
