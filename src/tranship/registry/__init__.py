"""Which backends exist: built-ins and installed plugins, by URL scheme. An object, not a global."""

from tranship.registry._registry import Classifier, Registry
from tranship.registry._schemes import own_plugin
from tranship.registry._status import PluginState, PluginStatus
from tranship.registry._version import kind_of

__all__ = ["Classifier", "PluginState", "PluginStatus", "Registry", "kind_of", "own_plugin"]
