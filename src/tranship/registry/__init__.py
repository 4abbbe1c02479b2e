"""Which backends exist: built-ins and installed plugins, by URL scheme. An object, not a global."""

from tranship.registry._registry import Registry
from tranship.registry._status import PluginState, PluginStatus

__all__ = ["PluginState", "PluginStatus", "Registry"]
