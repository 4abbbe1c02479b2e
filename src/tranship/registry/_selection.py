"""Which plugins the operator wants: TRANSHIP_LOAD_PLUGINS, _BLOCK_PLUGINS and _PLUGINS_PREFER."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Self

from tranship.registry._status import PluginStatus, canonical

__all__ = ["Selection"]

_LOAD: Final = "TRANSHIP_LOAD_PLUGINS"
_BLOCK: Final = "TRANSHIP_BLOCK_PLUGINS"
_PREFER: Final = "TRANSHIP_PLUGINS_PREFER"


class Selection(NamedTuple):
    """Names of plugins or of their distributions, in canonical form."""

    load: frozenset[str] | None
    """None: all that are installed."""
    block: frozenset[str]
    prefer: frozenset[str]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the three variables; an empty TRANSHIP_LOAD_PLUGINS means none."""
        return cls(
            load=_names(environ[_LOAD]) if _LOAD in environ else None,
            block=_names(environ.get(_BLOCK, "")),
            prefer=_names(environ.get(_PREFER, "")),
        )

    def refusal(self, plugin: PluginStatus) -> str | None:
        """Return why ``plugin`` is not to be loaded, or None."""
        if plugin.is_called(self.block):
            return f"it is blocked by {_BLOCK}; take it out of there"
        if self.load is not None and not plugin.is_called(self.load):
            return f"it is not listed in {_LOAD}; add it there"
        return None

    def missing(self, found: list[PluginStatus]) -> Iterator[str]:
        """Names that TRANSHIP_LOAD_PLUGINS lists and nobody has."""
        for name in sorted(self.load or ()):
            if not any(plugin.is_called(frozenset({name})) for plugin in found):
                yield name


def _names(text: str) -> frozenset[str]:
    return frozenset(canonical(name.strip()) for name in text.split(",") if name.strip())
