"""The registry: plugins in, opened schemes out."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

from tranship.display import guard_loggers
from tranship.errors import PluginError
from tranship.hookspecs import API_VERSION, PROJECT, BackendSpec
from tranship.ports import Backend
from tranship.registry._schemes import Claim, SchemeTable
from tranship.registry._selection import Selection
from tranship.registry._status import PluginState, PluginStatus
from tranship.registry._version import api_problem
from tranship.settings import BackendConfig, BrokerURL, SharedState

__all__ = ["Registry"]

T = TypeVar("T")
log = logging.getLogger("tranship.registry")


class Registry:
    """The backends of the built-ins and of installed plugins, by URL scheme.

    A broken plugin is kept in :meth:`plugins` with its reason, and raises only when its scheme is used.

    Args:
        entry_points: look for installed plugins; False: built-ins only.
        environ: where TRANSHIP_LOAD_PLUGINS (comma-separated; empty: none), TRANSHIP_BLOCK_PLUGINS and
            TRANSHIP_PLUGINS_PREFER are read; None: the process's environment.
    """

    def __init__(self, *, entry_points: bool = True, environ: Mapping[str, str] | None = None) -> None:
        # pluggy is loaded where a registry is made, so that importing tranship stays light.
        from tranship import backends
        from tranship.registry._host import PluginHost

        self._selection = Selection.read(os.environ if environ is None else environ)
        self._host = PluginHost()
        self._table = SchemeTable(self._selection.prefer)
        self._plugins: list[PluginStatus] = []
        self._shared = _Shared()
        self._add(PluginStatus(name="builtin", distribution="tranship"), lambda: backends)
        for plugin, load in _installed() if entry_points else ():
            self._consider(plugin, load)
        for name in self._selection.missing(self._plugins):
            reason = PluginError(
                f"TRANSHIP_LOAD_PLUGINS names {name!r}, which is not installed: install it, or take the name out"
            )
            self._plugins.append(PluginStatus(name=name, state=PluginState.MISSING, error=reason))

    def register(self, plugin: object, *, name: str | None = None) -> None:
        """Add a plugin (anything with hook implementations) or a bare :class:`BackendSpec` at run time.

        Raises:
            PluginError: it is broken, made for another API, or claims a scheme that is taken.
        """
        spec = plugin if isinstance(plugin, BackendSpec) else None
        label = name or (spec.name if spec else str(getattr(plugin, "__name__", type(plugin).__name__)))
        specs = self._host.described(spec) if spec else self._host.add(plugin, label)
        status = PluginStatus(name=label, backends=specs)
        for problem in self._problems(status):
            if not spec:
                self._host.remove(plugin)
            raise problem
        self._enter(status)

    def plugins(self) -> Sequence[PluginStatus]:
        """Return what became of every plugin, in the order of loading, built-ins first."""
        return tuple(self._plugins)

    def schemes(self) -> Sequence[str]:
        """Return every URL scheme that a loaded plugin claims, sorted."""
        return self._table.schemes()

    def create(self, url: str | BrokerURL, *, shared: SharedState | None = None) -> Backend:
        """Return a backend for ``url``, not opened.

        Args:
            url: whose scheme chooses the plugin.
            shared: get-or-create of state that embedded backends share; None: what this registry keeps.

        Raises:
            InvalidURLError, InvalidOptionError: the URL or one of its options.
            UnknownSchemeError: nobody serves the scheme; the message says what to install.
            PluginError: two plugins claim the scheme, or the one that does is broken or too old.
        """
        parsed = url if isinstance(url, BrokerURL) else BrokerURL.parse(url)
        factory = _load(self._table.resolve(parsed.scheme, self._plugins))
        guard_loggers()
        state = shared or self._shared
        return factory(BackendConfig(parsed, state, lambda member: self.create(member, shared=state)))

    def _consider(self, plugin: PluginStatus, load: Callable[[], object]) -> None:
        refusal = self._selection.refusal(plugin)
        if refusal is None:
            self._add(plugin, load)
        else:
            self._plugins.append(replace(plugin, state=PluginState.BLOCKED, error=PluginError(refusal)))

    def _add(self, plugin: PluginStatus, load: Callable[[], object]) -> None:
        try:
            specs = self._host.add(_loaded(plugin, load), plugin.label)
        except PluginError as error:
            log.warning("plugin %s was not loaded: %s", plugin.label, error)
            self._plugins.append(replace(plugin, state=PluginState.FAILED, error=error))
        else:
            self._enter(replace(plugin, backends=specs))

    def _enter(self, plugin: PluginStatus) -> None:
        self._table.add(plugin)
        problem = next(filter(None, map(api_problem, plugin.backends)), None)
        if problem:
            log.warning("plugin %s cannot be used: %s", plugin.label, problem)
            plugin = replace(plugin, state=PluginState.FAILED, error=PluginError(problem))
        elif any(spec.api_version > API_VERSION for spec in plugin.backends):
            log.warning("plugin %s was made for a newer tranship; some of it may not work", plugin.label)
        self._plugins.append(plugin)

    def _problems(self, plugin: PluginStatus) -> Iterator[PluginError]:
        for problem in filter(None, map(api_problem, plugin.backends)):
            yield PluginError(f"plugin {plugin.label} cannot be used: {problem}")
        yield from self._table.rivals(plugin)


class _Shared:
    """Get-or-create for a registry that nobody gave the process's table."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, create: Callable[[], T], /) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = create()
            kept: T = self._kept[key]
            return kept


def _installed() -> Iterator[tuple[PluginStatus, Callable[[], object]]]:
    from importlib import metadata

    for entry in sorted(metadata.entry_points(group=PROJECT), key=lambda entry: entry.name):
        distribution = entry.dist
        yield (
            PluginStatus(
                name=entry.name,
                distribution=distribution.name if distribution else "",
                version=distribution.version if distribution else "",
            ),
            entry.load,
        )


def _loaded(plugin: PluginStatus, load: Callable[[], object]) -> object:
    try:
        return load()
    except Exception as error:
        raise PluginError(f"plugin {plugin.label} cannot be imported: {type(error).__name__}: {error}") from error


def _load(claim: Claim) -> Callable[[BackendConfig], Backend]:
    module, _, path = claim.spec.factory.partition(":")
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        cure = f"; pip install '{claim.spec.requirement}'" if claim.spec.requirement else ""
        raise PluginError(
            f"backend {claim.spec.name} of plugin {claim.plugin.label} cannot be imported: {error}{cure}"
        ) from error
    factory: Callable[[BackendConfig], Backend] = found
    return factory
