"""``tranship conformance``."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._errors import ExitCode
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tranship.testing.case import CaseReport
    from tranship.testing.conformance import Conformance
    from tranship.testing.tiers import TierResult

Broker = Annotated[
    str | None, typer.Argument(metavar="[URL]", help="The broker, embedded or a server that runs; as --url.")
]
Modules = Annotated[
    list[str] | None, typer.Option("--module", "-m", metavar="MODULE", help="A plugin that is not installed.")
]
Tier = Annotated[int, typer.Option("--tier", metavar="1-4", min=1, max=4, help="Run the cases up to this tier.")]
Cases = Annotated[list[str] | None, typer.Option("--case", metavar="ID", help="Run only this case.")]
Results = Annotated[
    str | None, typer.Option("--results", metavar="URL", help="Where clients and workers keep results; else there.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Keep the report as JSON.")]


@command()
def run(
    call: Invocation,
    broker: Broker = None,
    *,
    modules: Modules = None,
    tier: Tier = 4,
    cases: Cases = None,
    results: Results = None,
    output: Output = None,
) -> None:
    """Show which promises a backend keeps, and the tier it has reached; then exit code 0, unless one is broken."""
    from tranship.errors import ConfigurationError
    from tranship.testing.conformance import as_if_installed, run_conformance
    from tranship.testing.harness import Harness

    call.url = broker if broker is not None else call.url
    if output is not None and not output.parent.is_dir():
        raise ConfigurationError(f"{output} cannot be written: there is no directory {output.parent}")
    with _silenced(call), as_if_installed(modules or ()):
        harness = Harness(call.settings().broker_url.reveal())
        harness.quiet = not call.verbose
        harness.results = Harness(results) if results is not None else None
        tell = _Progress(call)
        found = run_conformance(harness, upto=tier, only=cases or (), tell=tell)
    if output is not None:
        found.report.write(output)
    _show(call, found, whole=not cases)
    if found.standing.failed:
        raise typer.Exit(ExitCode.FAILURE)


@contextmanager
def _silenced(call: Invocation) -> Iterator[None]:
    """Cases break connections and kill workers, which everybody logs; -v shows it."""
    call.log()
    if call.verbose:
        yield
        return
    # Levels stay as they are usually, --quiet or not: some cases are about what is logged.
    logger, handlers = logging.getLogger("tranship"), logging.getLogger().handlers
    level, levels = logger.level, [handler.level for handler in handlers]
    logger.setLevel(logging.WARNING)
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler, before in zip(handlers, levels, strict=False):
            handler.setLevel(before)


class _Progress:
    """Says on stderr which suite is running, and what fails when it does."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._suite = ""

    def __call__(self, report: CaseReport) -> None:
        from tranship.testing.tiers import tier_of

        suite = f"tier {tier_of(report.case)}: {report.case.suite} ..."
        if suite != self._suite:
            self._suite = suite
            self._call.output.note(suite)
        if report.outcome == "failed":
            self._call.output.note(f"  failed: {report.case.id}", "red")


def _show(call: Invocation, found: Conformance, *, whole: bool) -> None:
    if call.json:
        call.output.json(_as_data(found, whole=whole))
        return
    if whole:
        _show_tiers(call, found)
    else:
        cells = [[one.case.id, one.case.suite, one.outcome, one.reason] for one in found.reports]
        call.output.table(["case", "suite", "outcome", ""], cells)


def _show_tiers(call: Invocation, found: Conformance) -> None:
    output, standing = call.output, found.standing
    columns = ["#tier", "", "#passed", "#failed", "#left out", "stands"]
    rows = [[str(one.tier.number), one.tier.title, *_counts(one), _stands(one)] for one in standing.tiers]
    output.table(
        columns, rows, title=f"{found.backend}: {sum(map(found.capabilities.has, found.capabilities))} capabilities"
    )
    for report in standing.failed:
        output.line(f"failed: {report.case.id} ({report.case.suite}): {report.reason}", "red")
        output.line(f"    what it is for: {report.case.rationale}", "dim")
    for reason, ids in _by_reason(standing.left_out).items():
        output.line(f"left out, because {reason}: {', '.join(ids)}", "yellow")
    output.line(standing.badge, "bold green" if not standing.failed else "bold red")


def _counts(one: TierResult) -> list[str]:
    return [str(one.passed), str(len(one.failed)), str(len(one.left_out))]


def _stands(one: TierResult) -> Any:
    from rich.text import Text

    if one.reached:
        return Text("reached", "green")
    if one.missing:
        return Text(f"not declared: {', '.join(one.missing)}", "yellow")
    if one.failed:
        return Text(f"{len(one.failed)} failed", "red")
    return Text("the tier below is not reached" if one.passed else "not run", "dim")


def _by_reason(reports: Iterable[CaseReport]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in reports:
        found[one.reason].append(one.case.id)
    return found


def _as_data(found: Conformance, *, whole: bool) -> dict[str, Any]:
    standing = found.standing
    return {
        "backend": found.backend,
        **({"tier": standing.tier, "badge": standing.badge} if whole else {}),
        "capabilities": {
            capability.value: {"support": support.level.value, **support.properties}
            for capability, support in found.capabilities.items()
        },
        "tiers": [
            {
                "tier": one.tier.number,
                "title": one.tier.title,
                "reached": one.reached,
                "not_declared": list(one.missing),
                "passed": one.passed,
                "failed": len(one.failed),
                "left_out": len(one.left_out),
            }
            for one in standing.tiers
        ],
        "cases": [
            {"id": one.case.id, "suite": one.case.suite, "outcome": one.outcome, "reason": one.reason}
            for one in found.reports
        ],
    }
