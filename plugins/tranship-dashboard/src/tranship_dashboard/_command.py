"""``tranship dashboard``."""

from __future__ import annotations

import ipaddress
import logging
from typing import Annotated

import typer

from tranship.cli._complete import tasks_of_module
from tranship.cli._invocation import Invocation, command
from tranship.errors import ConfigurationError, UnsupportedError
from tranship.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="A web page: queues, workers, tasks, workflows, dead letters, schedules.", add_completion=False)

PORT = 8910


@app.command()
@command(json=False, log=False)
def run(
    call: Invocation,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE[:OBJECT]]...",
            help="Modules with tasks, or one Worker object: they get forms to submit them.",
            autocompletion=tasks_of_module,
        ),
    ] = None,
    *,
    host: Annotated[
        str, typer.Option(help="The address to listen at; another than this machine's own is your choice.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="TRANSHIP_DASHBOARD_TOKEN",
            help="Who has it may come in.",
            show_default="a new one at each start",
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let everybody in: somebody in front of it sees to that.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and do nothing.")] = False,
    keep_samples: Annotated[
        bool, typer.Option("--keep-samples", help="Keep what the plots show, for when it is started again.")
    ] = False,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Below which path a proxy in front of it serves it, such as /tasks.")
    ] = "",
    served_as: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --no-token: the name of a proxy in front of it; can be repeated."),
    ] = None,
) -> None:
    """Serve a web page that shows queues, workers, tasks, workflows, dead letters and schedules, and acts on them.

    It listens on this machine alone and prints an address with a token. Ctrl-C ends it.
    """
    from tranship_dashboard._serve import serve

    settings = call.settings()
    _check(settings, token, no_token=no_token, root_path=root_path)
    tasks = _tasks(targets or [])
    call.log(logging.WARNING)
    serve(
        settings,
        tasks,
        host=host,
        port=port,
        token=token,
        no_token=no_token,
        read_only=read_only,
        keep_samples=keep_samples,
        root_path=root_path.rstrip("/"),
        served_as=served_as or [],
        say=call.output.line,
        warn=None if is_own(host) else call.output.note,
    )


def is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(settings: Settings, token: str | None, *, no_token: bool, root_path: str) -> None:
    if token is not None and no_token:
        raise typer.BadParameter("give one of them", param_hint="--token or --no-token")
    if root_path and not root_path.startswith("/"):
        raise typer.BadParameter(f"{root_path!r} does not begin with a slash", param_hint="--root-path")
    if settings.broker_url.scheme == "memory":
        raise UnsupportedError(
            f"{settings.broker_url} is in the memory of one process, and nothing is in this one; name a broker that "
            "others can reach, or mount the dashboard in the application that has it"
        )


def _tasks(targets: list[str]) -> list[object]:
    if not targets:
        return []
    from tranship.cli._load import load_work
    from tranship.worker import Worker

    work = load_work(targets)
    found: list[object] = list(work.tasks.values() if isinstance(work, Worker) else work)
    if not found:
        raise ConfigurationError(f"{', '.join(targets)} has no tasks")
    return found
