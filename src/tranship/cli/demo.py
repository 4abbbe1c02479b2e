"""``tranship demo``."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.cli._demo_run import DemoReport
    from tranship.settings import Settings


@command(json=False)
def run(call: Invocation) -> None:
    """See it work: a producer here, a worker in another process, retries, a cancel, a dead letter.

    Needs no server: without --url it uses a new SQLite file in a temporary directory. Takes some seconds.
    """
    import asyncio

    from tranship.cli._demo_run import run_demo

    directory = Path(tempfile.mkdtemp(prefix="tranship-demo-"))
    settings = _settings(call, directory)
    call.output.note(f"the broker is {settings.broker_url}", style="")
    try:
        with _progress(call) as progress:
            report = asyncio.run(
                run_demo(
                    settings,
                    directory / "worker.log",
                    say=lambda text: call.output.note(text, style=""),
                    progress=progress,
                )
            )
    except BaseException:
        # What there is in it may say why; if nothing was done, nothing is left behind.
        with suppress(OSError):
            directory.rmdir()
        raise
    _show(call, report)
    _what_next(call, settings, report, directory)


def _settings(call: Invocation, directory: Path) -> Settings:
    from tranship.settings import Settings

    if call.url is None:
        url = f"sqlite:///{(directory / 'demo.db').as_posix()}"
        # The demo's tasks are no business of a configured broker: no environment, no settings file.
        return Settings.load({}, directory=directory, broker_url=url, namespace=call.namespace)
    # Somebody's own broker: no task of theirs is touched.
    call.namespace = call.namespace or f"demo-{secrets.token_hex(3)}"
    return call.settings()


@contextmanager
def _progress(call: Invocation) -> Iterator[Callable[[DemoReport], None]]:
    from tranship.cli._demo_run import TOTAL

    if call.quiet or not call.output.err.is_terminal:
        yield lambda report: _say_quarters(call, report.done, TOTAL)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=call.output.err) as bar:
        shown = bar.add_task("tasks done", total=TOTAL)
        yield lambda report: bar.update(shown, completed=report.done)


def _say_quarters(call: Invocation, done: int, total: int) -> None:
    if done * 4 // total > (done - 1) * 4 // total:
        call.output.note(f"{done} of {total} tasks done", style="")


def _show(call: Invocation, report: DemoReport) -> None:
    from statistics import mean

    from tranship.cli._demo_run import CANCEL_KEY
    from tranship.envelope import Priority, TaskState

    dead = report.dead.error.message if report.dead and report.dead.error else ""
    remarks = {
        TaskState.SUCCESS: f"{report.retried} of them failed at first and were retried",
        TaskState.CANCELLED: f"by the cancel key {CANCEL_KEY!r}; {report.cancelled_running} was running",
        TaskState.DEAD_LETTERED: f"tried twice, then kept: {dead}",
    }
    states = [[state.value, report.states[state], remark] for state, remark in remarks.items()]
    call.output.table(["ended as", "#tasks", ""], states, title="What happened")
    levels = [
        [level.label, len(places), f"{mean(places):.0f}"] for level in Priority if (places := report.places.get(level))
    ]
    call.output.table(["priority", "#tasks", "#mean place"], levels, title="In which order (low was submitted first)")
    call.output.table(["", "#"], _timings(report), title="How fast")


def _timings(report: DemoReport) -> Iterator[list[str]]:
    from statistics import median

    from tranship.cli._demo_tasks import WORK_SECONDS
    from tranship.cli._demo_worker import CONCURRENCY
    from tranship.cli._output import age, milliseconds

    rate = report.submitted / max(report.submit_seconds, 1e-6)
    yield ["submitted in one batch", f"{rate:,.0f} tasks/s"]
    yield ["worker process started, first result", age(report.first_seconds)]
    what = f"run and answered ({CONCURRENCY} at once, {WORK_SECONDS * 1000:.0f} ms of work each)"
    yield [what, f"{report.done / max(report.work_seconds, 1e-6):,.0f} tasks/s"]
    yield ["round trip of one task, median", milliseconds(median(report.round_trips))]


def _what_next(call: Invocation, settings: Settings, report: DemoReport, directory: Path) -> None:
    output, program = call.output, _program()
    # A password is not printed: TRANSHIP_BROKER_URL says it all for a broker with one.
    where = f"-u {shlex.quote(str(settings.broker_url))}"
    where += f" --namespace {settings.namespace}" if settings.namespace else ""
    output.line("What next: everything is still there to look at.", "bold")
    output.line(f"  {program} dead list {where}")
    if report.dead is not None:
        output.line(f"  {program} dead show {report.dead.id} {where}")
    output.line(f"  {program} submit demo.work 12 --queue demo {where}")
    output.line(f"  {program} worker tranship.cli._demo_tasks --burst {where}")
    output.line(f"  {program} doctor {where}")
    output.line(f"  {program} --help")
    output.line(f"Files are in {directory}; delete them with: rm -r {shlex.quote(str(directory))}", "dim")


def _program() -> str:
    """How we were called, so that what is printed can be pasted."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py" or not started.exists():
        return f"{shlex.quote(sys.executable)} -m tranship"
    found = shutil.which(started.name)
    if found is not None and os.path.samefile(found, started):  # noqa: PTH121 - Path.samefile is no shorter
        return started.name
    return shlex.quote(sys.argv[0])
