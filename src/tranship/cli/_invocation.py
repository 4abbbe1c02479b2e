"""What every command has in common: the global options, wherever on the line they stand."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._logging import set_up_logging
from tranship.errors import UnsupportedError
from tranship.settings import Settings

if TYPE_CHECKING:
    from tranship.cli._output import Output
    from tranship.operations import Operator
    from tranship.sync import Client

__all__ = ["Invocation", "Json", "Namespace", "Quiet", "Url", "Verbose", "command", "usual"]

_PANEL = "Global options"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        help="The broker, such as sqlite:////var/lib/app/tasks.db or redis://host/0.",
        show_default="TRANSHIP_BROKER_URL, the settings file, an embedded one",
        rich_help_panel=_PANEL,
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", help="Prefixes every name on the broker.", rich_help_panel=_PANEL)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.", rich_help_panel=_PANEL)]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Log more; twice: everything.", rich_help_panel=_PANEL
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only what was asked for, and errors.", rich_help_panel=_PANEL)]


def usual(setting: str, unit: str = "") -> str:
    """Return the default of a setting as help shows it: what holds unless something else sets it."""
    return f"{getattr(Settings, setting):g}{unit}, or the setting {setting}"


@dataclass(kw_only=True)
class Invocation:
    """The global options of one run, and what they lead to."""

    url: str | None = None
    namespace: str | None = None
    json: bool = False
    verbose: int = 0
    quiet: bool = False

    def settings(self, **arguments: Any) -> Settings:
        """Return the settings that hold for this run; ``arguments`` are a command's own options."""
        return Settings.load(broker_url=self.url, namespace=self.namespace, **arguments)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client.

        Raises:
            UnsupportedError: the broker is in the memory of this process, and ends with it.
        """
        from tranship.ports import Capability
        from tranship.sync import Client

        with Client(settings=self.settings()) as client:
            if not client.capabilities.has(Capability.CROSS_PROCESS):
                raise UnsupportedError(
                    f"{client.settings.broker_url} is in the memory of this process, which ends with this command and "
                    "takes along what it has submitted; name a broker that others can reach, such as "
                    "sqlite:////var/lib/app/tasks.db"
                )
            yield client

    def operator(self) -> Operator:
        """Return an operator, to be used with ``with``."""
        from tranship.operations import Operator

        return Operator(settings=self.settings())

    @cached_property
    def output(self) -> Output:
        """Where to print."""
        # rich is loaded where something is shown.
        from tranship.cli._output import Output

        return Output(quiet=self.quiet)

    def log(self, usual: int = logging.WARNING, *, json_lines: bool = False) -> None:
        """Set up logging; ``usual`` is the level without -v and --quiet."""
        set_up_logging(usual=usual, verbose=self.verbose, quiet=self.quiet, json_lines=json_lines)

    def over(self, outer: Invocation) -> Invocation:
        """Return these options where they were given, and those of ``outer`` where not."""
        return Invocation(
            url=self.url if self.url is not None else outer.url,
            namespace=self.namespace if self.namespace is not None else outer.namespace,
            json=self.json or outer.json,
            verbose=self.verbose + outer.verbose,
            quiet=self.quiet or outer.quiet,
        )


_COMMON = {"url": (Url, None), "namespace": (Namespace, None), "verbose": (Verbose, 0), "quiet": (Quiet, False)}


def command(*, json: bool = True, log: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function whose first parameter is the invocation; the global options are added.

    Args:
        json: whether there is something for a script to read.
        log: set up logging as usual; False: the command does it itself.
    """
    common = {**_COMMON, "json": (Json, False)} if json else _COMMON

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def run(ctx: typer.Context, **given: Any) -> None:
            options = {name: given.pop(name) for name in common}
            outer = ctx.find_root().obj
            invocation = Invocation(**options).over(outer if isinstance(outer, Invocation) else Invocation())
            if log:
                invocation.log()
            function(invocation, **given)

        _describe(run, function, common)
        return run

    return decorate


def _describe(run: Any, function: Callable[..., None], common: dict[str, tuple[Any, Any]]) -> None:
    """Give ``run`` the name, the documentation and the parameters that typer reads."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    shared = [inspect.Parameter(name, keyword, annotation=kind, default=at) for name, (kind, at) in common.items()]
    parameters = [context, *(one.replace(kind=keyword) for one in own), *shared]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters}
