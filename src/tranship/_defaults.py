"""What a process uses when nobody chose: the registry of installed plugins, and the embedded broker, said once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tranship.connections import ConnectionTable
from tranship.settings import Settings

if TYPE_CHECKING:
    from tranship.registry import Registry

__all__ = ["default_registry", "say_default"]

log = logging.getLogger("tranship")


def say_default(table: ConnectionTable, settings: Settings) -> None:
    """Log, once in a process, which file is used when no broker is configured."""
    if settings.origin("broker_url") != "default":
        return

    def say() -> bool:
        log.info("no broker is configured: using the embedded one at %s", settings.broker_url)
        if settings.production:
            signs = ", ".join(settings.production)
            log.warning(
                "this looks like production (%s), but no broker is configured: tasks stay on this host; "
                "set TRANSHIP_BROKER_URL",
                signs,
            )
        return True

    table.shared(("tranship.default", settings.broker_url), say)


def default_registry(table: ConnectionTable) -> Registry:
    """The registry of this process, built when it is first needed."""
    from tranship.registry import Registry

    registry: Any = table.shared("tranship.registry", Registry)
    assert isinstance(registry, Registry)
    return registry
