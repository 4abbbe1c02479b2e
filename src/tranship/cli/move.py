"""``tranship move``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship._signals import heard
from tranship.cli._errors import ExitCode, exit_code, one_line
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.operations import MoveOptions, MoveReport, Refusal

REFUSED = ("leave", "dead-letter")
SHOWN = 5
"""Refusals that are shown for each reason."""

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The broker with the backlog, by URL.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="The broker that is to have it, by URL.")]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", "-q", metavar="NAME", help="Move this queue; may be given several times."),
]
Everything = Annotated[bool, typer.Option("--all", help="Move every queue.")]
DeadLetters = Annotated[bool, typer.Option("--dead-letters", help="Move the dead letters of the queues, too.")]
Delayed = Annotated[bool, typer.Option("--delayed/--no-delayed", help="Move what is not due yet, too.")]
Limit = Annotated[int | None, typer.Option("--limit", "-l", metavar="N", help="Move this many at most.")]
Refused = Annotated[
    str,
    typer.Option(
        metavar="|".join(REFUSED),
        help="What becomes of messages that the target does not take: they stay, or go to the source's dead letters.",
        autocompletion=lambda: list(REFUSED),
    ),
]
PatienceFor = Annotated[
    float, typer.Option("--patience", metavar="SECONDS", help="How long one of the brokers may be away.")
]
Linger = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait at the end for messages that others hold; otherwise one lease of the source.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what there is to move, and move nothing.")]


@command()
def run(
    call: Invocation,
    source: Source,
    target: Target,
    *,
    queue: Queues = None,
    everything: Everything = False,
    dead_letters: DeadLetters = False,
    delayed: Delayed = True,
    limit: Limit = None,
    refused: Refused = "leave",
    patience: PatienceFor = 300.0,
    linger: Linger = None,
    dry_run: DryRun = False,
) -> None:
    """Move a backlog to another broker, while clients and workers go on.

    A message is removed at the source only after the target has confirmed it. Ctrl-C ends it in order, and after a
    kill, too, the same command goes on where it was. --namespace holds for both brokers.
    """
    from tranship.operations import MoveOptions

    _check(call, queue, everything=everything)
    options = MoveOptions(
        queues=queue,
        limit=limit,
        delayed=delayed,
        dead_letters=dead_letters,
        refused=refused,  # type: ignore[arg-type]  # checked there
        patience=patience,
        linger=linger,
        dry_run=dry_run,
    )
    report = _move(call, source, target, options)
    if call.json:
        call.output.json(_as_data(report))
    else:
        _show(call, report)
    _end(call, report)


def _check(call: Invocation, queue: list[str] | None, *, everything: bool) -> None:
    if call.url is not None:
        raise typer.BadParameter("SOURCE and TARGET say where; leave it out", param_hint="--url")
    if bool(queue) is everything:
        raise typer.BadParameter("give one of them", param_hint="--queue or --all")


def _move(call: Invocation, source: str, target: str, options: MoveOptions) -> MoveReport:
    from tranship.cli._move_view import watching
    from tranship.operations import Move
    from tranship.ports import Capability
    from tranship.settings import Settings

    first, second = (Settings.load(broker_url=url, namespace=call.namespace) for url in (source, target))
    with watching(call.output, quiet=call.quiet or call.json or options.dry_run) as watcher:
        # What is moved into this very process would end with it.
        move = Move(first, second, options, needs=[Capability.CROSS_PROCESS], watcher=watcher)
        # Ctrl-C and SIGTERM end it in order; the second one at once.
        with heard(lambda _number: move.stop(), once=True):
            return move.run_blocking()


def _as_data(report: MoveReport) -> dict[str, Any]:
    from tranship.cli._output import plain

    data: dict[str, Any] = plain(report)
    totals = ("before", "moved", "already_there", "refused", "dead_lettered", "dead_moved", "left", "by_others")
    data["error"] = None if report.error is None else {"code": report.error.code, "message": one_line(report.error)}
    data["queues"] = [{**plain(queue), "before": queue.before} for queue in report.queues]
    return {**data, **{name: getattr(report, name) for name in totals}}


def _show(call: Invocation, report: MoveReport) -> None:
    for warning in report.warnings:
        call.output.note(f"warning: {warning}", style="yellow")
    if not report.queues:
        call.output.note(f"nothing to move at {report.source}")
    elif report.dry_run:
        columns = ["queue", "#ready", "#delayed", "#in flight", "#dead"]
        rows = [[one.name, one.ready, one.delayed, one.in_flight, one.dead] for one in report.queues]
        call.output.line(f"{report.source} to {report.target}: nothing was moved", style="bold")
        call.output.table(columns, rows)
    else:
        _show_counts(call, report)


def _show_counts(call: Invocation, report: MoveReport) -> None:
    columns = ["queue", "#before", "#moved", "#already there", "#refused", "#left", "#dead moved"]
    rows = [
        [one.name, one.before, one.moved, one.already_there, one.refused, one.left, one.dead_moved]
        for one in report.queues
    ]
    call.output.table(columns, rows)
    call.output.line(_sum(report))
    _show_refusals(call, report)
    if report.repeated:
        call.output.note(f"answers were lost: up to {report.repeated} are there twice", style="yellow")
    if report.reappeared:
        call.output.note(f"{report.reappeared} came again at the source after a crash and were removed once more")
    if report.contested:
        text = "the source gave them to somebody else meanwhile: they may run twice"
        call.output.note(f"{report.contested} of those moved: {text}", style="yellow")


def _show_refusals(call: Invocation, report: MoveReport) -> None:
    """Some of each kind: one reason often holds for all."""
    kinds: dict[tuple[str, str], list[Refusal]] = {}
    for refusal in report.refusals:
        kinds.setdefault((refusal.queue, refusal.reason), []).append(refusal)
    for (queue, reason), found in kinds.items():
        for one in found[:SHOWN]:
            place = f"task {one.task_id}" if one.task_id else "a message"
            call.output.note(f"not moved: {place} of queue {queue!r}: {one.detail} ({reason})", "yellow")
        if len(found) > SHOWN:
            call.output.note(f"not moved: {len(found) - SHOWN} more of queue {queue!r} ({reason})", "yellow")
    if report.refused > len(report.refusals):
        call.output.note(f"not moved: {report.refused - len(report.refusals)} more", "yellow")


def _sum(report: MoveReport) -> str:
    """The counts as a sum that can be checked."""
    parts = [f"{report.moved} moved"]
    parts += [f"{report.already_there} already there"] if report.already_there else []
    parts += [f"{report.dead_lettered} dead-lettered"] if report.dead_lettered else []
    if report.before is None or report.left is None or report.by_others is None:
        return ", ".join(parts)
    parts.append(f"{report.left} left")
    if report.by_others:
        done = "taken by workers" if report.by_others > 0 else "less that clients added"
        parts.append(f"{abs(report.by_others)} {done}")
    return f"{report.before} before = " + " + ".join(parts)


def _end(call: Invocation, report: MoveReport) -> None:
    from tranship.cli._output import complain

    if report.error is not None:
        text = "everything that was not confirmed is back at the source; the same command goes on where it ended"
        complain(one_line(report.error), hint=text)
        raise typer.Exit(exit_code(report.error))
    if report.stopped:
        call.output.note("stopped; what was not confirmed is back at the source. The same command goes on")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if report.refused:
        raise typer.Exit(ExitCode.FAILURE)
