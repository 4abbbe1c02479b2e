"""Tasks: what runs, how they ended, one of them with everything that is known; and workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tranship.envelope import TaskResult, TaskState
from tranship.errors import ResultsDisabled, TaskNotFound, TranshipError, UnsupportedError
from tranship.operations import DeadLetterReport, Finished
from tranship_dashboard._graph import drawing, graph_of, nodes_of
from tranship_dashboard._pages import running_tasks
from tranship_dashboard._web import Refused, Web, href

__all__ = ["task", "tasks", "workflow", "workflows"]

SHOWN: Final = 100
OUTCOMES: Final = ("succeeded", "failed", "retry", "dead", "cancelled", "expired")


async def tasks(web: Web, request: Request) -> Response:
    """Show what runs and what has ended, or what is looked for among that."""
    wanted, outcome = request.query_params.get("q", "").strip(), request.query_params.get("outcome", "")
    finished = [one for one in web.source.history.latest() if _fits(one, wanted, outcome)]
    running = [row for row in running_tasks(web.source.workers) if _runs(row, wanted)]
    return web.page(
        request,
        "tasks.html",
        q=wanted,
        outcome=outcome,
        outcomes=OUTCOMES,
        running=running[:SHOWN],
        more_running=sum(one.busy - len(one.running) for one in web.source.workers) + max(0, len(running) - SHOWN),
        finished=finished[:SHOWN],
        found=len(finished),
        known=len(web.source.history),
        remembering=any(one.remembers for one in web.source.workers),
    )


async def task(web: Web, request: Request) -> Response:
    """Show everything about one task."""
    task_id = _id(request)
    attempts = web.source.history.attempts(task_id)
    runs = next((row for row in running_tasks(web.source.workers) if row[0].id == task_id), None)
    result, unknown = await _result(web, task_id)
    letter = await _letter(web, task_id)
    if result is None and not attempts and runs is None and letter is None and not unknown:
        raise TaskNotFound(f"nothing is known of a task {task_id!r}: it may be queued, was forgotten, or never was")
    return web.page(
        request,
        "task.html",
        id=task_id,
        name=_name(attempts, runs, letter),
        attempts=attempts,
        result=result,
        unknown=unknown,
        running=runs,
        letter=letter,
        ended=result is not None and result.state.terminal,
        root=_root(web, attempts),
    )


async def workflows(web: Web, request: Request) -> Response:
    """Show the latest workflows."""
    running = {task.id for task, _ in running_tasks(web.source.workers)}
    rows = [_summary(attempts, running) for attempts in web.source.history.workflows()[:SHOWN]]
    return web.page(request, "workflows.html", rows=rows, known=len(web.source.history))


async def workflow(web: Web, request: Request) -> Response:
    """Draw one."""
    root = _id(request)
    attempts = web.source.history.workflow(root)
    if not attempts:
        raise TaskNotFound(f"nothing is known of a workflow {root!r}: no task of it has ended, or none is remembered")
    running = {task.id for task, _ in running_tasks(web.source.workers)}
    graph = graph_of(attempts, running)
    current = request.query_params.get("task", "")
    drawn = drawing(graph, lambda task_id: href(request, "/task", id=task_id), current)
    return web.page(request, "workflow.html", root=root, graph=graph, drawn=drawn, nodes=list(graph.nodes.values()))


def _id(request: Request) -> str:
    found = request.query_params.get("id", "")
    if not found:
        raise Refused(400, "the address names no task: expected ?id=")
    return found


def _fits(one: Finished, wanted: str, outcome: str) -> bool:
    if outcome and one.outcome != outcome:
        return False
    return not wanted or any(wanted.lower() in text.lower() for text in (one.id, one.task, one.error, one.queue))


def _runs(row: Any, wanted: str) -> bool:
    one, worker = row
    return not wanted or any(wanted.lower() in text.lower() for text in (one.id, one.task, one.queue, worker.worker))


async def _result(web: Web, task_id: str) -> tuple[TaskResult | None, str]:
    """Return what the result store says, or why nobody can say it."""
    try:
        found = await web.source.client.handle(task_id).info()
    except (ResultsDisabled, UnsupportedError) as error:
        return None, str(error)
    except TranshipError as error:
        return None, f"the result store does not answer: {error}"
    return (None if found.state is TaskState.UNKNOWN else found), ""


async def _letter(web: Web, task_id: str) -> DeadLetterReport | None:
    try:
        return await web.source.operator.dead_letter(task_id)
    except TranshipError:
        return None


def _name(attempts: Sequence[Finished], runs: Any, letter: DeadLetterReport | None) -> str:
    if runs is not None:
        return str(runs[0].task)
    if attempts:
        return attempts[-1].task
    return (letter.letter.task or "") if letter is not None else ""


def _root(web: Web, attempts: Sequence[Finished]) -> str:
    """Return the first task of the workflow that it belongs to; empty: it stands alone."""
    if not attempts:
        return ""
    found = web.source.history.workflow(attempts[-1].id)
    return found[0].id if found else ""


def _summary(attempts: Sequence[Finished], running: set[str]) -> Mapping[str, Any]:
    # All of them, also those that would not be drawn.
    states = [node.state for node in nodes_of(attempts, running).values()]
    failed = any(state in ("failed", "dead", "cancelled", "expired") for state in states)
    done = sum(state == "succeeded" for state in states)
    return {
        "id": attempts[0].id,
        "task": attempts[0].task,
        "tasks": len(states),
        "done": done,
        "state": "failed" if failed else "succeeded" if done == len(states) else "running",
        "at": attempts[-1].at,
    }
