"""Who serves which scheme: claims, collisions, and what to say when nobody does."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from tranship.errors import PluginError, UnknownSchemeError
from tranship.hookspecs import BackendSpec
from tranship.registry._status import PluginState, PluginStatus
from tranship.registry._synonyms import advice, is_bridged
from tranship.registry._version import api_problem

__all__ = ["Claim", "SchemeTable", "own_plugin"]

_OURS: Final = {
    "avtomatika": ("avtomatika+http", "avtomatika+https"),
    "azolla": ("azolla", "azolla+shepherd"),
    "redis": ("redis", "rediss", "unix", "valkey", "valkeys"),
    "rabbitmq": ("amqp", "amqps"),
    "nats": ("nats", "tls"),
}
"""The plugins in tranship's own repository, by their short names: the schemes that each serves."""
_EXTRAS: Final = {"azolla": "[grpc]"}
"""What else has to be asked for when one of them is installed."""
_BRIDGE: Final = "kombu"
"""The one that serves what kombu and Celery know."""


def own_plugin(scheme: str) -> str:
    """Return the short name of tranship's own plugin that serves ``scheme``, installed or not; empty: none does."""
    return next((name for name, schemes in _OURS.items() if scheme in schemes), "")


class Claim(NamedTuple):
    """A plugin's word that a backend of its serves a scheme."""

    spec: BackendSpec
    plugin: PluginStatus


class SchemeTable:
    """The claims of all plugins. ``preferred`` are canonical names of plugins that win a collision."""

    def __init__(self, preferred: frozenset[str]) -> None:
        self._preferred = preferred
        self._claims: dict[str, list[Claim]] = {}

    def add(self, plugin: PluginStatus) -> None:
        """Enter what ``plugin`` claims; collisions are told when the scheme is used."""
        for spec in plugin.backends:
            for scheme in spec.schemes:
                self._claims.setdefault(scheme, []).append(Claim(spec, plugin))

    def rivals(self, plugin: PluginStatus) -> Iterator[PluginError]:
        """The collisions that adding ``plugin`` would bring."""
        for spec in plugin.backends:
            for scheme in spec.schemes:
                claims = [*self._claims.get(scheme, ()), Claim(spec, plugin)]
                if len(self._winners(scheme, claims)) > 1:
                    yield _collision(scheme, claims)

    def schemes(self) -> tuple[str, ...]:
        """Every scheme somebody claims, sorted."""
        return tuple(sorted(self._claims))

    def resolve(self, scheme: str, plugins: Collection[PluginStatus]) -> Claim:
        """Return the claim that serves ``scheme``.

        Raises:
            UnknownSchemeError: nobody does; the message says what to install.
            PluginError: two plugins do, or the one that does cannot be used.
        """
        claims = self._claims.get(scheme, [])
        usable = [claim for claim in claims if api_problem(claim.spec) is None]
        if not usable:
            raise _refused(claims[0]) if claims else _unknown(scheme, self.schemes(), plugins)
        winners = self._winners(scheme, usable)
        if len(winners) > 1:
            raise _collision(scheme, winners)
        return winners[0]

    def _winners(self, scheme: str, claims: list[Claim]) -> list[Claim]:
        """Whom the operator prefers; else who does not yield the scheme; else all."""
        preferred = [claim for claim in claims if claim.plugin.is_called(self._preferred)]
        return preferred or [claim for claim in claims if scheme not in claim.spec.yields] or claims


def _refused(claim: Claim) -> PluginError:
    return PluginError(f"plugin {claim.plugin.label} cannot be used: {api_problem(claim.spec)}")


def _collision(scheme: str, claims: list[Claim]) -> PluginError:
    labels = " and ".join(claim.plugin.label for claim in claims)
    return PluginError(
        f"the scheme {scheme!r} is claimed by {labels}; uninstall one, or set "
        f"TRANSHIP_PLUGINS_PREFER={claims[-1].plugin.name}"
    )


def _unknown(
    scheme: str, known: Collection[str], plugins: Collection[PluginStatus]
) -> UnknownSchemeError | PluginError:
    ours = own_plugin(scheme)
    known_elsewhere, bridged = advice(scheme), [one for one in known if is_bridged(one)]
    if not ours and not known_elsewhere and not bridged and is_bridged(scheme):
        ours = _BRIDGE
    for plugin in plugins:
        # A plugin that could not be loaded has not said its schemes: by convention it is named after them.
        if plugin.error and plugin.is_called(frozenset({scheme, ours, f"tranship-{ours}"})):
            return _unloaded(scheme, plugin)
    if known_elsewhere:
        return UnknownSchemeError(f"no plugin serves the scheme {scheme!r}: {known_elsewhere}{_failures(plugins)}")
    # The bridge's are many, and all alike.
    shown = ", ".join([*(one for one in known if one not in bridged), *(["kombu+<transport>"] if bridged else [])])
    return UnknownSchemeError(
        f"no plugin serves the scheme {scheme!r}; {_guess(scheme, known)}known are: {shown}. "
        f"{_cure(ours)}{_failures(plugins)}"
    )


def _cure(ours: str) -> str:
    if ours:
        return f"To add it, in a clone of tranship: pip install ./plugins/tranship-{ours}{_EXTRAS.get(ours, '')}"
    return "Install a plugin that serves it, or write one: docs/how-to/write-a-backend.md"


def _unloaded(scheme: str, plugin: PluginStatus) -> PluginError:
    error = PluginError(f"the scheme {scheme!r} needs plugin {plugin.label}, which was not loaded: {plugin.error}")
    error.__cause__ = plugin.error
    return error


def _guess(scheme: str, known: Collection[str]) -> str:
    candidates = {*known, *(scheme for schemes in _OURS.values() for scheme in schemes)}
    # A scheme that only lacks its plugin is not misspelt.
    close = [] if scheme in candidates else difflib.get_close_matches(scheme, sorted(candidates), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _failures(plugins: Collection[PluginStatus]) -> str:
    failed = [plugin.label for plugin in plugins if plugin.state is PluginState.FAILED]
    return f". Not loaded, see `tranship plugins`: {', '.join(failed)}" if failed else ""
