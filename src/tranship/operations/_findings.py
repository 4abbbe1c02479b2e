"""The doctor's judgement: pure functions from what was seen to findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tranship.clocks import TOLERATED
from tranship.errors import BrokerUnreachable, PluginError, UnknownSchemeError
from tranship.operations._diagnosis import Diagnosis, Finding, Severity
from tranship.ports import Capabilities, Capability, Level
from tranship.registry import PluginState
from tranship.settings import Settings, production_signs

__all__ = ["judge"]

WAL_RESET_FIXED = (3, 51, 3)
"""Older SQLite can damage a database when one connection restarts the log while another checkpoints."""

CLOCK_TOLERANCE = 5.0
"""Seconds a worker's clock may be ahead before anybody is told."""


def judge(diagnosis: Diagnosis, settings: Settings, environ: Mapping[str, str], *, now: float) -> list[Finding]:
    """Return what there is to say, worst first."""
    found = [
        *_connections(diagnosis),
        *_servers(diagnosis),
        *_default_broker(settings, environ),
        *_plugins(diagnosis),
        *_capabilities(diagnosis),
        *_network_file(settings),
        *_queues(diagnosis),
        *_clocks(diagnosis),
        *_workers(diagnosis, now),
        *_sqlite(diagnosis, settings),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _connections(diagnosis: Diagnosis) -> Iterator[Finding]:
    for reach in diagnosis.reached:
        if reach.error is None:
            continue
        hint = ""
        if isinstance(reach.error, BrokerUnreachable):
            hint = "is it running, and do host and port match?"
        elif isinstance(reach.error, PluginError | UnknownSchemeError):
            hint = "see `tranship plugins`"
        yield Finding(severity=Severity.ERROR, about="connection", message=f"{reach.role}: {reach.error}", hint=hint)


def _servers(diagnosis: Diagnosis) -> Iterator[Finding]:
    for reach in diagnosis.reached:
        for warning in reach.warnings:
            yield Finding(severity=Severity.WARNING, about="server", message=f"{reach.role}: {warning}")


def _default_broker(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    signs = production_signs(environ)
    if settings.origin("broker_url") == "default" and signs:
        yield Finding(
            severity=Severity.WARNING,
            about="default-broker",
            message=f"this looks like production ({', '.join(signs)}), and no broker is configured: tasks go to the "
            f"embedded default {settings.broker_url}, which other machines do not see",
            hint="set TRANSHIP_BROKER_URL",
        )


def _plugins(diagnosis: Diagnosis) -> Iterator[Finding]:
    for plugin in diagnosis.plugins:
        if plugin.state in (PluginState.FAILED, PluginState.MISSING):
            yield Finding(
                severity=Severity.WARNING,
                about="plugins",
                message=f"plugin {plugin.label} is {plugin.state}: {plugin.error}",
                hint="upgrade or uninstall it, or name it in TRANSHIP_BLOCK_PLUGINS",
            )


_LACKS = {
    Capability.DURABLE: "what is queued is lost with the process or server",
    Capability.CROSS_PROCESS: "only this process sees its tasks: a worker in another one gets nothing",
    Capability.LEASE: "a task whose worker died comes back only when its connection ends",
    Capability.RESULTS: "no results are kept; set TRANSHIP_RESULT_URL to wait for results",
    Capability.CONTROL: "tasks cannot be cancelled, and workers are not listed",
    Capability.DEAD_LETTERS: "dead letters cannot be listed or replayed",
}


def _capabilities(diagnosis: Diagnosis) -> Iterator[Finding]:
    broker, *stores = diagnosis.reached
    for capability, consequence in _LACKS.items():
        covered = capability is Capability.RESULTS and stores
        if _lacks(broker.capabilities, capability) and not covered:
            yield Finding(
                severity=Severity.NOTE,
                about="capability",
                message=f"{broker.backend}: {consequence} (capability {capability}: none)",
            )


def _lacks(capabilities: Capabilities | None, capability: Capability) -> bool:
    return capabilities is not None and capabilities[capability].level is Level.NONE


def _network_file(settings: Settings) -> Iterator[Finding]:
    # The backend refuses a file on a network file system, unless it is told not to.
    if settings.broker_url.options.get("allow_network_fs", "").lower() in ("true", "1", "yes", "on"):
        yield Finding(
            severity=Severity.WARNING,
            about="network-filesystem",
            message="allow_network_fs is set: the database is lost when a second machine uses the same file",
            hint="use a local disk, or a broker with a server",
        )


def _queues(diagnosis: Diagnosis) -> Iterator[Finding]:
    for queue in diagnosis.queues:
        if queue.unserved:
            yield Finding(
                severity=Severity.WARNING,
                about="unserved-queue",
                message=f"tasks wait in queue {queue.name!r} ({queue.backlog}), and no worker consumes it",
                hint=f"tranship worker MODULE --queues {queue.name}",
            )
        if queue.dead:
            yield Finding(
                severity=Severity.NOTE,
                about="dead-letters",
                message=f"there are dead letters of queue {queue.name!r} ({queue.dead})",
                hint=f"tranship dead list --queue {queue.name}",
            )


def _clocks(diagnosis: Diagnosis) -> Iterator[Finding]:
    for reach in diagnosis.reached:
        if reach.clock_ahead is not None and abs(reach.clock_ahead) > TOLERATED:
            yield _skewed(f"the clock of the {reach.role} is", reach.clock_ahead, "ours")


def _workers(diagnosis: Diagnosis, now: float) -> Iterator[Finding]:
    for worker in diagnosis.workers:
        name = f"worker {worker.worker} on {worker.host}"
        if abs(worker.ahead) > TOLERATED:
            yield _skewed(f"the clock of {name} is", -worker.ahead, "the broker's")
        elif not worker.ahead and worker.at - now > CLOCK_TOLERANCE:
            yield _skewed(f"the clock of {name} is", worker.at - now, "ours")
        for other in worker.namesakes:
            yield Finding(
                severity=Severity.WARNING,
                about="namesakes",
                message=f"{name} is not the only one of that name: another is {other}",
                hint="give each worker a name of its own (name=, --name), or none",
            )


def _skewed(whose: str, ahead: float, other: str) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        about="clock",
        message=f"{whose} {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} {other}: "
        "deadlines and delays may be off by as much",
        hint="synchronise the clocks (NTP)",
    )


def _sqlite(diagnosis: Diagnosis, settings: Settings) -> Iterator[Finding]:
    version = tuple(int(part) for part in diagnosis.versions["sqlite"].split("."))
    if settings.broker_url.scheme == "sqlite" and version < WAL_RESET_FIXED:
        yield Finding(
            severity=Severity.NOTE,
            about="sqlite-version",
            message=f"SQLite {diagnosis.versions['sqlite']} has the log-reset bug of all versions before 3.51.3; "
            "tranship serialises commits and checkpoints against it, other programs on the same file may not",
        )
