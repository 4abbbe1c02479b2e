"""``tranship dead``: list, show, replay, purge."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import dead_letters, queue_names
from tranship.cli._confirm import confirm
from tranship.cli._errors import ExitCode
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.envelope import DeadLetter
    from tranship.operations import DeadLetterReport, Operator

__all__ = ["app"]

app: typer.Typer = typer.Typer(help="Look at dead letters, run them again, delete them.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Dead letters, by their own id or the task's.", autocompletion=dead_letters),
]
Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="A dead letter, by its own id or the task's.", autocompletion=dead_letters),
]
OfQueue = Annotated[str | None, typer.Option("--queue", "-q", help="Those of this queue.", autocompletion=queue_names)]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
@command()
def list_letters(
    call: Invocation,
    queue: OfQueue = None,
    limit: Annotated[int, typer.Option("--limit", "-l", metavar="N", help="How many at most.")] = 100,
    after: Annotated[str, typer.Option(metavar="ID", help="Start behind this one.")] = "",
) -> None:
    """List dead letters, oldest first."""
    with call.operator() as operator:
        letters = operator.dead_letters(queue, limit=limit, after=after)
    if call.json:
        call.output.json([_as_data(letter) for letter in letters])
    elif letters:
        _table(call, letters)
    else:
        call.output.note("no dead letters")
    if len(letters) == limit:
        call.output.note(f"there may be more: --after {letters[-1].id}")


@app.command("show")
@command()
def show_letter(call: Invocation, letter_id: Id) -> None:
    """Show everything about one: reason, arguments, error, traceback."""
    with call.operator() as operator:
        report = operator.dead_letter(letter_id)
    if call.json:
        call.output.json(_report_data(report))
    else:
        _show(call, report)


@app.command("replay")
@command()
def replay_letters(call: Invocation, ids: Ids = None, queue: OfQueue = None, everything: Everything = False) -> None:
    """Queue dead letters again, with a fresh delivery count."""
    _check_selection(ids, queue, everything=everything)
    with call.operator() as operator:
        found = operator.replay(ids or None, queue=queue)
    if call.json:
        call.output.json({"replayed": found})
    else:
        call.output.line(f"{len(found)} replayed")
    _missing(call, ids or [], len(found))


@app.command("purge")
@command()
def purge_letters(
    call: Invocation,
    ids: Ids = None,
    queue: OfQueue = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete dead letters for good."""
    _check_selection(ids, queue, everything=everything)
    with call.operator() as operator:
        if not yes:
            _confirm(operator, ids, queue)
        purged = operator.purge(ids or None, queue=queue)
    if call.json:
        call.output.json({"purged": purged})
    else:
        call.output.line(f"{purged} purged")
    _missing(call, ids or [], purged)


def _check_selection(ids: list[str] | None, queue: str | None, *, everything: bool) -> None:
    if (bool(ids), queue is not None, everything).count(True) != 1:
        raise typer.BadParameter("give one of them", param_hint="IDs, --queue or --all")


def _confirm(operator: Operator, ids: list[str] | None, queue: str | None) -> None:
    count = len(ids) if ids else operator.count_dead_letters(queue)
    where = f" of queue {queue!r}" if queue else ""
    confirm(f"Delete {count} dead letter(s){where} at {operator.settings.broker_url} for good?")


def _missing(call: Invocation, ids: list[str], found: int) -> None:
    if found < len(set(ids)):
        call.output.note(f"{len(set(ids)) - found} of the ids were not found", style="yellow")
        raise typer.Exit(ExitCode.FAILURE)


def _table(call: Invocation, letters: list[DeadLetter]) -> None:
    columns = ["id", "task", "queue", "reason", "#age", "#attempt", "#redelivered", "detail"]
    call.output.table(columns, map(_row, letters))


def _row(letter: DeadLetter) -> list[Any]:
    from tranship.cli._output import age
    from tranship.operations import attempt_of

    attempt = attempt_of(letter)
    facts = [letter.id, letter.task, letter.queue, letter.reason, age(time.time() - letter.died_at)]
    return [*facts, None if attempt is None else attempt + 1, _redelivered(letter), letter.detail]


def _redelivered(letter: DeadLetter) -> int:
    """How often its last attempt came again, because its worker had died or lost it."""
    return max(0, letter.deliveries - 1)


def _as_data(letter: DeadLetter) -> dict[str, Any]:
    from tranship.cli._output import plain
    from tranship.operations import attempt_of

    data: dict[str, Any] = plain(letter)
    return {**data, "priority": letter.priority.label, "attempt": attempt_of(letter)}


def _report_data(report: DeadLetterReport) -> dict[str, Any]:
    from tranship.cli._output import plain

    envelope = report.envelope
    data = _as_data(report.letter)
    return {
        **data,
        "attempt": envelope.attempt if envelope else data["attempt"],
        "args": list(envelope.args) if envelope else None,
        "kwargs": dict(envelope.kwargs) if envelope else None,
        "problem": report.problem,
        "error": plain(report.result.error) if report.result and report.result.error else None,
    }


def _show(call: Invocation, report: DeadLetterReport) -> None:
    from tranship.cli._output import literal, moment

    letter, envelope = report.letter, report.envelope
    facts = [
        ("id", letter.id),
        ("task", letter.task),
        ("task id", letter.task_id),
        ("queue", f"{letter.queue} ({letter.priority.label})"),
        ("reason", letter.reason),
        ("detail", letter.detail),
        ("died at", moment(letter.died_at)),
        ("redelivered", _redelivered(letter)),
    ]
    if envelope is not None:
        facts += [("attempt", envelope.attempt + 1), ("args", literal(list(envelope.args)))]
        facts += [("kwargs", literal(dict(envelope.kwargs))), ("cancel key", envelope.cancel_key)]
    else:
        facts += [("unreadable", report.problem), ("body", repr(letter.body[:500]))]
    for name, value in facts:
        if value is not None:
            call.output.line(f"{name:<11} {value}")
    if report.result is not None and report.result.error is not None and report.result.error.traceback:
        call.output.line("")
        call.output.lines(report.result.error.traceback.rstrip(), indent="  ")
