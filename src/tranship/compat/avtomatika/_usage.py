"""What a worker's host has to do, as its owner measures it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tranship.worker import Worker

__all__ = ["DeviceUsage", "ResourcesUsage", "tell_usage"]


@dataclass(frozen=True)
class DeviceUsage:
    """Of one device, such as a GPU."""

    unit_id: str
    load_percent: float
    metrics: dict[str, Any] | None = None


@dataclass(frozen=True)
class ResourcesUsage:
    """Of a host."""

    cpu_load_percent: float = 0.0
    ram_used_gb: float = 0.0
    devices_usage: list[DeviceUsage] | None = None


async def tell_usage(worker: Worker, checker: Callable[[], ResourcesUsage]) -> None:
    """Put what ``checker`` finds into the label ``usage``, as often as heartbeats are sent, until cancelled."""
    while True:
        worker.set_labels(usage=asdict(await asyncio.to_thread(checker)))
        await asyncio.sleep(worker.settings.heartbeat_interval)
