"""What can be done: each by a form of ours, through the operator or the client, and back to where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tranship.commanding import CommandState
from tranship.errors import InvalidArgumentsError, TranshipError
from tranship.operations import CommandAnswer
from tranship_dashboard._source import TIMEOUT
from tranship_dashboard._web import Form, Refused, Web

__all__ = ["ACTIONS", "act"]

DIGITS: Final = 9
"""Of a number that somebody writes: Python refuses to read very long ones."""

Action = Callable[[Web, Form], Awaitable[str]]


async def act(web: Web, request: Request) -> Response:
    """Do what a form asks for, and return to the page that it stood on."""
    form = await web.form(request)
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Refused(404, "there is no such action; nothing was done")
    back = form.get("back", "")
    try:
        # The look that follows has a bound of its own: what was done is said, however long that takes.
        async with asyncio.timeout(TIMEOUT):
            said = await action(web, form)
    except TranshipError as error:
        return web.back(request, back, f"It was not done: {error}", good=False)
    except TimeoutError:
        why = f"The broker has not answered within {TIMEOUT:g} s; whether it was done is not known."
        return web.back(request, back, why, good=False)
    await web.source.look()
    return web.back(request, form.get("after", "") or back, said)


def _need(form: Form, name: str) -> str:
    if not (value := form.get(name, "")):
        raise InvalidArgumentsError(f"the form has no {name}")
    return value


def _several(form: Form, name: str) -> list[str]:
    found = [one for one in form.get(name, "").split("\n") if one]
    if not found:
        raise InvalidArgumentsError("nothing was chosen")
    return found


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


async def _cancel(web: Web, form: Form) -> str:
    task_id = _need(form, "id")
    await web.source.client.cancel(task_id=task_id)
    return f"The cancel of task {task_id} is recorded; a worker ends it if it runs."


async def _replay(web: Web, form: Form) -> str:
    found = await web.source.operator.replay(_several(form, "ids"))
    return f"{_counted(len(found), 'dead letter')} queued again."


async def _replay_all(web: Web, form: Form) -> str:
    found = await web.source.operator.replay(queue=form.get("queue") or None)
    return f"{_counted(len(found), 'dead letter')} queued again."


async def _purge(web: Web, form: Form) -> str:
    gone = await web.source.operator.purge(_several(form, "ids"))
    return f"{_counted(gone, 'dead letter')} deleted."


async def _purge_all(web: Web, form: Form) -> str:
    gone = await web.source.operator.purge(queue=form.get("queue") or None)
    return f"{_counted(gone, 'dead letter')} deleted."


async def _purge_queue(web: Web, form: Form) -> str:
    ids = [one for one in form.get("ids", "").split("\n") if one] or None
    gone = await web.source.operator.purge_queue(_need(form, "queue"), ids)
    return f"{_counted(len(gone), 'waiting task')} removed."


def _command(name: str, *fields: str) -> Action:
    async def command(web: Web, form: Form) -> str:
        arguments = {field: _need(form, field) for field in fields}
        worker = form.get("worker")
        answers = await web.source.operator.command(name, arguments, workers=[worker] if worker else None)
        return _told(name, answers)

    return command


async def _concurrency(web: Web, form: Form) -> str:
    limit = _need(form, "limit")
    if not limit.isascii() or not limit.isdigit() or len(limit) > DIGITS:
        raise InvalidArgumentsError(f"limit is {limit[:200]!r}; expected a whole number of at least 1")
    answers = await web.source.operator.command("concurrency", {"limit": int(limit)}, workers=[_need(form, "worker")])
    return _told("concurrency", answers)


def _told(name: str, answers: list[CommandAnswer]) -> str:
    done = sum(one.state in (CommandState.DONE, CommandState.RUNNING) for one in answers)
    if not done:
        why = "; ".join(sorted({one.error or one.state.value for one in answers})) or "no worker has answered"
        raise TranshipError(why)
    silent = f", {len(answers) - done} did not" if done < len(answers) else ""
    return f"{_counted(done, 'worker')} did {name}{silent}."


async def _pause_schedule(web: Web, form: Form) -> str:
    await web.source.operator.pause_schedule(name := _need(form, "name"))
    return f"Schedule {name} is paused."


async def _resume_schedule(web: Web, form: Form) -> str:
    await web.source.operator.resume_schedule(name := _need(form, "name"))
    return f"Schedule {name} is active."


async def _run_schedule(web: Web, form: Form) -> str:
    task_id = await web.source.operator.trigger_schedule(_need(form, "name"))
    return f"Submitted out of turn as task {task_id}."


ACTIONS: Final[Mapping[str, Action]] = {
    "cancel": _cancel,
    "replay": _replay,
    "replay-all": _replay_all,
    "purge": _purge,
    "purge-all": _purge_all,
    "purge-queue": _purge_queue,
    "pause-queue": _command("pause", "queue"),
    "resume-queue": _command("resume", "queue"),
    "drain": _command("drain"),
    "resume": _command("resume"),
    "stop": _command("stop"),
    "concurrency": _concurrency,
    "pause-schedule": _pause_schedule,
    "resume-schedule": _resume_schedule,
    "run-schedule": _run_schedule,
}
