"""What INFO tells about a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tranship.errors import BrokerRefused, BrokerUnreachable, UnsupportedError
from tranship.protocol import whole_of
from tranship_redis._errors import NotReady

__all__ = ["MINIMUM", "ServerInfo", "warnings_of"]

MINIMUM: Final = (6, 2)
"""The oldest version with the commands we use (ZRANGE BYSCORE, RPOP with a count, client tracking)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The facts we act on; None where the server does not say, or INFO is not allowed."""

    is_resp3: bool
    version: str | None = None
    """Redis's, or the one a compatible server claims to be."""
    mode: str | None = None
    """``"standalone"``, ``"cluster"`` or ``"sentinel"``."""
    role: str | None = None
    """``"master"`` or ``"slave"``."""
    read_only: bool | None = None
    """A replica that takes no writes."""
    loading: bool | None = None
    aof_enabled: bool | None = None
    """Whether every write goes to a log on disk."""
    maxmemory_policy: str | None = None
    """What is thrown away when the memory is full; anything but ``noeviction`` may throw away tasks."""

    @classmethod
    def read(cls, reply: Any, *, is_resp3: bool) -> ServerInfo:
        """Return what an answer to INFO says; an error (no permission) says nothing."""
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply if isinstance(reply, str) else ""
        facts = dict(line.partition(":")[::2] for line in text.splitlines() if not line.startswith("#"))
        return cls(
            is_resp3=is_resp3,
            version=facts.get("redis_version"),
            mode=_mode(facts),
            role=facts.get("role"),
            read_only=_flag(facts.get("slave_read_only")) if facts.get("role") == "slave" else False,
            loading=_flag(facts.get("loading")),
            aof_enabled=_flag(facts.get("aof_enabled")),
            maxmemory_policy=facts.get("maxmemory_policy"),
        )

    @property
    def cluster(self) -> bool | None:
        """Whether it is a node of a Redis Cluster."""
        return None if self.mode is None else self.mode == "cluster"

    def check(self, place: str, *, was_master: bool) -> None:
        """Raise where this server cannot serve us.

        Args:
            place: names it in errors.
            was_master: it served us before, so that a replica is a failover under way.

        Raises:
            UnsupportedError: too old, or a node of a cluster.
            BrokerRefused: a Sentinel, or a read-only replica.
            NotReady: it is still loading its data.
            BrokerUnreachable: it became a replica.
        """
        if self.mode == "sentinel":
            raise BrokerRefused(f"{place} is a Sentinel, not the server it watches; use the address of that")
        if self.cluster:
            raise UnsupportedError(f"{place} is a node of a Redis Cluster; tranship needs a single server")
        if self.version and _numbers(self.version) < MINIMUM:
            raise UnsupportedError(f"{place} is Redis {self.version}; 6.2 or newer is needed")
        if self.loading:
            raise NotReady(f"{place} is still loading its data")
        if self.read_only:
            kind = BrokerUnreachable if was_master else BrokerRefused
            raise kind(f"{place} is a read-only replica; use the address of its master")


def warnings_of(server: ServerInfo, fsync: str | None) -> list[str]:
    """Return what is set in a way that loses or delays work, each with its cure."""
    found = []
    if server.aof_enabled is False:
        found.append(
            "the append-only file is off: what was queued since the last snapshot is lost when the server crashes; "
            "set appendonly yes"
        )
    if fsync == "no":
        found.append("appendfsync is no: a power cut loses what was queued in the last half minute; set everysec")
    if server.maxmemory_policy not in (None, "noeviction"):
        found.append(
            f"maxmemory-policy is {server.maxmemory_policy}: a full server throws tasks and results away; "
            "set noeviction"
        )
    if not server.is_resp3:
        found.append("it speaks RESP2 only: workers poll for tasks, and results need a connection of their own")
    return found


def _mode(facts: Mapping[str, str]) -> str | None:
    if facts.get("cluster_enabled") == "1":
        return "cluster"
    # The second is Valkey's name for it.
    return facts.get("redis_mode") or facts.get("server_mode")


def _flag(value: str | None) -> bool | None:
    return None if value is None else value == "1"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(whole_of(part) or 0 for part in version.split(".")[:2])
