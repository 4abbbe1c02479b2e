"""``tranship doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._errors import ExitCode, exit_code, one_line
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.operations import Diagnosis, Finding, Reach

STYLES = {
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
    "native": "green",
    "emulated": "yellow",
    "none": "red",
}


@command()
def run(
    call: Invocation,
    broker: Annotated[str | None, typer.Argument(metavar="[URL]", help="The broker; as --url.")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="What each step gets.")] = 5.0,
) -> None:
    """Find out what is wrong: settings, plugins, connection, capabilities, queues without workers."""
    call.url = broker if broker is not None else call.url
    diagnosis = call.operator().diagnose(timeout)
    if call.json:
        call.output.json(_as_data(diagnosis))
    else:
        _show(call, diagnosis)
    if not diagnosis.ok:
        raise typer.Exit(exit_code(diagnosis.error) if diagnosis.error else ExitCode.FAILURE)


def _show(call: Invocation, diagnosis: Diagnosis) -> None:
    from tranship.cli import config, plugins, queues

    output = call.output
    output.line("  ".join(f"{name} {version}" for name, version in diagnosis.versions.items()))
    output.line("")
    config.show(call, diagnosis.settings)
    plugins.show(call, diagnosis.plugins)
    for reach in diagnosis.reached:
        output.line(_reached(reach), "green" if reach.error is None else "bold red")
        if reach.members:
            _show_members(call, reach)
        if reach.capabilities is not None:
            _show_capabilities(call, reach)
    if diagnosis.queues:
        queues.show(call, list(diagnosis.queues))
    _show_findings(call, diagnosis)


def _reached(reach: Reach) -> str:
    from tranship.cli._output import milliseconds

    if reach.error is not None:
        return f"{reach.role} {reach.url}: not reached"
    connect, ping = milliseconds(reach.connect_seconds), milliseconds(reach.ping_seconds)
    return f"{reach.role} {reach.url} ({reach.backend}): connected in {connect}, ping {ping}"


def _show_members(call: Invocation, reach: Reach) -> None:
    from rich.text import Text

    from tranship.cli._output import milliseconds

    rows = [
        [
            one.url,
            milliseconds(one.connect_seconds),
            milliseconds(one.ping_seconds),
            _lacks(one) if one.error is None else Text(f"not reached: {one_line(one.error)}", "bold red"),
        ]
        for one in reach.members
    ]
    call.output.table([f"each {reach.role}", "#connected in", "#ping", "lacks"], rows)


def _lacks(reach: Reach) -> str:
    known = reach.capabilities
    return "" if known is None else ", ".join(one.value for one in known if not known.has(one))


def _show_capabilities(call: Invocation, reach: Reach) -> None:
    from rich.text import Text

    assert reach.capabilities is not None
    rows = [
        [
            capability.value,
            Text(support.level.value, STYLES[support.level.value]),
            ", ".join(f"{name}={value}" for name, value in support.properties.items()),
        ]
        for capability, support in reach.capabilities.items()
    ]
    call.output.table(["capability", "support", ""], rows)


def _show_findings(call: Invocation, diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        severity = finding.severity.value
        call.output.line(f"{severity}: {finding.message}", STYLES[severity])
        if finding.hint:
            call.output.line(f"    {finding.hint}", "dim")
    worst = diagnosis.findings[0].severity.value if diagnosis.findings else "note"
    verdicts = {"error": "It does not work.", "warning": "It works; see the warnings.", "note": "All is well."}
    call.output.line(verdicts[worst], STYLES["native"] if worst == "note" else STYLES[worst])


def _as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    from tranship.cli import plugins, queues
    from tranship.ports import heartbeat_data

    return {
        "ok": diagnosis.ok,
        "versions": dict(diagnosis.versions),
        "settings": [row._asdict() for row in diagnosis.settings],
        "plugins": [plugins.as_data(plugin) for plugin in diagnosis.plugins],
        "reached": [_reach_data(reach) for reach in diagnosis.reached],
        "queues": [queues.as_data(queue) for queue in diagnosis.queues],
        "workers": [heartbeat_data(worker) for worker in diagnosis.workers],
        "findings": [_finding_data(finding) for finding in diagnosis.findings],
    }


def _reach_data(reach: Reach) -> dict[str, Any]:
    return {
        "role": reach.role,
        "url": reach.url,
        "backend": reach.backend,
        "connect_seconds": reach.connect_seconds,
        "ping_seconds": reach.ping_seconds,
        "clock_ahead": reach.clock_ahead,
        "error": None if reach.error is None else {"code": reach.error.code, "message": str(reach.error)},
        "capabilities": {
            capability.value: {"support": support.level.value, **support.properties}
            for capability, support in (reach.capabilities or {}).items()
        },
        **({"members": [_reach_data(one) for one in reach.members]} if reach.members else {}),
    }


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "about": finding.about,
        "message": finding.message,
        "hint": finding.hint,
    }
