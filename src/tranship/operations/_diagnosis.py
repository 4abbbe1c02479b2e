"""What the doctor says."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tranship.errors import TranshipError
from tranship.operations._queues import QueueReport
from tranship.ports import Capabilities, Heartbeat
from tranship.registry import PluginStatus
from tranship.settings import SettingRow

__all__ = ["Diagnosis", "Finding", "Reach", "Severity"]


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """It does not work."""
    WARNING = "warning"
    """It works, and will hurt."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing the doctor has to say."""

    severity: Severity
    about: str
    """A stable word for programs: ``"connection"``, ``"plugins"``, ``"default-broker"``, ``"unserved-queue"``, ..."""
    message: str
    hint: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far we got with one broker or result store; times are seconds."""

    role: str
    """``"broker"`` or ``"results"``; ``"member"``: one of several that are used as one."""
    url: str
    """Without secrets."""
    backend: str | None = None
    """The plugin's name for it, once there is one."""
    connect_seconds: float | None = None
    ping_seconds: float | None = None
    """The median of a few pings."""
    clock_ahead: float | None = None
    """Seconds by which the broker's clock is ahead of ours; None: it does not tell the time."""
    capabilities: Capabilities | None = None
    """Known once connected."""
    warnings: Sequence[str] = ()
    """What the backend says of the server's settings."""
    error: TranshipError | None = None
    """What stopped us."""
    members: Sequence[Reach] = ()
    """Where several brokers are used as one: each by itself, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything the doctor looked at, and the findings, worst first."""

    versions: Mapping[str, str]
    settings: Sequence[SettingRow]
    plugins: Sequence[PluginStatus]
    reached: Sequence[Reach]
    """The broker, then the result store where it is another one."""
    queues: Sequence[QueueReport]
    workers: Sequence[Heartbeat]
    findings: Sequence[Finding]

    @property
    def ok(self) -> bool:
        """Whether nothing is broken; warnings do not count."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def error(self) -> TranshipError | None:
        """What stopped us from connecting, if anything did."""
        return next((reach.error for reach in self.reached if reach.error is not None), None)
