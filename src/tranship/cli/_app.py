"""The program: global options and the list of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from tranship import __version__
from tranship.cli import (
    cancel,
    config,
    conformance,
    control,
    dead,
    demo,
    describe,
    doctor,
    init,
    migrate,
    move,
    plugin,
    plugins,
    purge,
    queues,
    result,
    run_one,
    schedule,
    schema,
    submit,
    tasks,
    top,
    worker,
    workers,
)
from tranship.cli._bare import bare_number
from tranship.cli._invocation import Invocation, Json, Namespace, Quiet, Url, Verbose
from tranship.cli._plugged import Program
from tranship.cli._watch import EVERY

__all__ = ["app"]

WatchingCommand = bare_number("--watch", "-w", means=EVERY)

app = typer.Typer(
    name="tranship",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `tranship demo` or `tranship init`; plugins may have commands, too: `tranship plugins`. Exit "
    "codes: 1 failure, 2 usage, 3 broker unreachable, 4 the task failed.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tranship {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    ctx: typer.Context,
    *,
    url: Url = None,
    namespace: Namespace = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    _shown: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Submit tasks, wait for results and run workers over any broker, chosen by URL."""
    ctx.obj = Invocation(url=url, namespace=namespace, json=json, verbose=verbose, quiet=quiet)


app.command("init")(init.run)
app.command("demo")(demo.run)
app.command("worker")(worker.run)
app.command("run-one")(run_one.run)
app.command("submit", cls=result.WaitingCommand)(submit.run)
app.command("result", cls=result.WaitingCommand)(result.run)
app.command("cancel")(cancel.run)
app.command("queues", cls=WatchingCommand)(queues.run)
app.command("workers", cls=WatchingCommand)(workers.run)
app.command("top")(top.run)
app.add_typer(control.app, name="control")
app.command("tasks", cls=WatchingCommand)(tasks.run)
app.command("purge")(purge.run)
app.add_typer(dead.app, name="dead")
app.add_typer(schedule.app, name="schedule")
app.command("describe")(describe.run)
app.add_typer(schema.app, name="schema")
app.command("move")(move.run)
app.add_typer(migrate.app, name="migrate")
app.command("plugins")(plugins.run)
app.add_typer(plugin.app, name="plugin")
app.command("conformance")(conformance.run)
app.command("doctor")(doctor.run)
app.command("config")(config.run)
