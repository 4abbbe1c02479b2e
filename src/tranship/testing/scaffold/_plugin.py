"""A distribution for a new backend, written into a directory of its own; green at tier 1 as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tranship.errors import ConfigurationError
from tranship.hookspecs import API_VERSION
from tranship.ports import Capabilities, Capability, Level, Support
from tranship.registry import own_plugin
from tranship.testing.report import capability_table
from tranship.testing.scaffold._writing import written

__all__ = ["new_plugin"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OWN: Final = frozenset(
    {
        "avtomatika",
        "azolla",
        "dashboard",
        "django",
        "example",
        "kombu",
        "nats",
        "objectstore",
        "otel",
        "rabbitmq",
        "redis",
    }
)
"""What tranship's own plugins are called."""
_DECLARED: Final = Capabilities({Capability.ORDERED: Support(Level.NATIVE, {"redelivered": "back"})})
"""What three methods and one trait are; a test of what is written checks it."""


def new_plugin(name: str, parent: Path) -> Path:
    """Write the distribution ``tranship-<name>`` below ``parent`` and return its directory.

    Raises:
        ConfigurationError: the name cannot be one, its URL scheme is taken, the directory has something in it, or it
            cannot be written.
    """
    words = _words(name)
    target = parent / words["distribution"]
    written("plugin", words, target, cure="choose another name or --directory")
    return target


def _words(name: str) -> Mapping[str, str]:
    """Return what the templates speak of, by its name there."""
    short = name.removeprefix("tranship-")
    if not _NAME.fullmatch(short):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a plugin: expected small letters, digits and single hyphens, a letter "
            "first, such as mine or my-broker; it becomes tranship-<name>, tranship_<name> and <name>://"
        )
    _check_scheme(short)
    module = short.replace("-", "_")
    return {
        "distribution": f"tranship-{short}",
        "package": f"tranship_{module}",
        "module": module,
        "scheme": short,
        "prefix": "".join(part.capitalize() for part in short.split("-")),
        "variable": module.upper(),
        "api_version": repr(API_VERSION),
        "capabilities": capability_table(_DECLARED).rstrip(),
    }


def _check_scheme(scheme: str) -> None:
    from tranship.registry import Registry

    own = scheme if scheme in _OWN else own_plugin(scheme)
    if own:
        raise ConfigurationError(
            f"tranship-{own} is a plugin of tranship's own, installed here or not; choose another name than {scheme!r}"
        )
    for plugin in Registry().plugins():
        for spec in plugin.backends:
            if scheme in spec.schemes:
                raise ConfigurationError(
                    f"{scheme}:// is served by {plugin.distribution or plugin.name} already; choose another name"
                )
