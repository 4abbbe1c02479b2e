"""The registry: plugins in, opened schemes out."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tranship import codec
from tranship.display import guard_loggers
from tranship.errors import PluginError, UnsupportedError
from tranship.hookspecs import (
    API_VERSION,
    PROJECT,
    ClassifierSpec,
    CodecSpec,
    CommandSpec,
    MiddlewareSpec,
    PluginPart,
    ResultStoreSpec,
)
from tranship.ports import Backend
from tranship.registry._schemes import Claim, SchemeTable
from tranship.registry._selection import Selection
from tranship.registry._status import PluginState, PluginStatus
from tranship.registry._version import api_problem, kind_of
from tranship.settings import BackendConfig, BrokerURL, SharedState

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from tranship.middleware import Middleware

__all__ = ["Classifier", "Registry"]

Classifier = Callable[[BaseException], BaseException | None]
"""Gives what is to be raised in place of an exception, or None: not one of its own."""

T = TypeVar("T")
P = TypeVar("P", bound=PluginPart)
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
        self._loading = threading.Lock()
        self._middleware: tuple[Middleware, ...] | None = None
        self._classifiers: tuple[Classifier, ...] | None = None
        self._add(PluginStatus("builtin", lambda: ("tranship", "")), lambda: backends)
        for plugin, load in _installed() if entry_points else ():
            self._consider(plugin, load)
        for name in self._selection.missing(self._plugins):
            reason = PluginError(
                f"TRANSHIP_LOAD_PLUGINS names {name!r}, which is not installed: install it, or take the name out"
            )
            self._plugins.append(PluginStatus(name=name, state=PluginState.MISSING, error=reason))

    def register(self, plugin: object, *, name: str | None = None) -> None:
        """Add a plugin (anything with hook implementations) or one bare description of a part at run time.

        Raises:
            PluginError: it is broken, made for another API, or claims a scheme that is taken.
        """
        spec = plugin if isinstance(plugin, PluginPart) else None
        label = name or (spec.name if spec else str(getattr(plugin, "__name__", type(plugin).__name__)))
        specs = self._host.described(spec) if spec else self._host.add(plugin, label)
        status = PluginStatus(name=label, parts=specs)
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

    def middleware(self) -> Sequence[Middleware]:
        """Return the middleware of all plugins, made when it is first asked for; the first is the outermost.

        Raises:
            PluginError: one of them cannot be imported or made.
        """
        with self._loading:
            if self._middleware is None:
                self._middleware = tuple(_made(*one) for one in self._parts(MiddlewareSpec))
            return self._middleware

    def classifiers(self) -> Sequence[Classifier]:
        """Return the exception classifiers of all plugins, imported when they are first asked for.

        Raises:
            PluginError: one of them cannot be imported.
        """
        with self._loading:
            if self._classifiers is None:
                found = ((plugin, spec, spec.function) for plugin, spec in self._parts(ClassifierSpec))
                self._classifiers = tuple(_imported(*one) for one in found)
            return self._classifiers

    def commands(self) -> Mapping[str, CommandSpec]:
        """Return the commands of all plugins by name; of two with one name the first."""
        return {spec.name: spec for _, spec in reversed(list(self._parts(CommandSpec)))}

    def command(self, name: str) -> Any:
        """Return what a command's ``target`` names.

        Raises:
            PluginError: it cannot be imported.
        """
        plugin, spec = next(one for one in self._parts(CommandSpec) if one[1].name == name)
        return _imported(plugin, spec, spec.target)

    def _parts(self, kind: type[P]) -> Iterator[tuple[PluginStatus, P]]:
        for plugin in self._plugins:
            if plugin.state is PluginState.LOADED:
                yield from ((plugin, part) for part in plugin.parts if isinstance(part, kind))

    def create(self, url: str | BrokerURL, *, shared: SharedState | None = None, results: bool = False) -> Backend:
        """Return a backend for ``url``, not opened.

        Args:
            url: whose scheme chooses the plugin.
            shared: get-or-create of state that embedded backends share; None: what this registry keeps.
            results: it is to keep results, and nobody will give it tasks.

        Raises:
            InvalidURLError, InvalidOptionError: the URL or one of its options.
            UnknownSchemeError: nobody serves the scheme; the message says what to install.
            PluginError: two plugins claim the scheme, or the one that does is broken or too old.
            UnsupportedError: it keeps results and takes no tasks, and is to be a broker.
        """
        parsed = url if isinstance(url, BrokerURL) else BrokerURL.parse(url)
        claim = self._table.resolve(parsed.scheme, self._plugins)
        if isinstance(claim.spec, ResultStoreSpec) and not results:
            raise UnsupportedError(
                f"{parsed} keeps results and takes no tasks; give it as result_url, TRANSHIP_RESULT_URL, with a broker"
            )
        factory = _load(claim)
        guard_loggers()
        state = shared or self._shared
        return factory(BackendConfig(parsed, state, lambda member: self.create(member, shared=state)))

    def _consider(self, plugin: PluginStatus, load: Callable[[], object]) -> None:
        refusal = self._selection.refusal(plugin)
        if refusal is None:
            self._add(plugin, load)
        else:
            self._plugins.append(plugin._replace(state=PluginState.BLOCKED, error=PluginError(refusal)))

    def _add(self, plugin: PluginStatus, load: Callable[[], object]) -> None:
        try:
            specs = self._host.add(_loaded(plugin, load), plugin.label)
        except PluginError as error:
            log.warning("plugin %s was not loaded: %s", plugin.label, error)
            self._plugins.append(plugin._replace(state=PluginState.FAILED, error=error))
        else:
            self._enter(plugin._replace(parts=specs))

    def _enter(self, plugin: PluginStatus) -> None:
        self._middleware = self._classifiers = None
        if plugin.state is PluginState.LOADED and not any(map(api_problem, plugin.parts)):
            for part in plugin.parts:
                if isinstance(part, CodecSpec):
                    codec.plug(part.content_type, partial(_imported, plugin, part, part.codec))
        self._table.add(plugin)
        problem = next(filter(None, map(api_problem, plugin.parts)), None)
        if problem:
            log.warning("plugin %s cannot be used: %s", plugin.label, problem)
            plugin = plugin._replace(state=PluginState.FAILED, error=PluginError(problem))
        elif any(spec.api_version > API_VERSION for spec in plugin.parts):
            log.warning("plugin %s was made for a newer tranship; some of it may not work", plugin.label)
        self._plugins.append(plugin)

    def _problems(self, plugin: PluginStatus) -> Iterator[PluginError]:
        for problem in filter(None, map(api_problem, plugin.parts)):
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


def _installed() -> Sequence[tuple[PluginStatus, Callable[[], object]]]:
    return _installed_in(tuple((place, _changed(place)) for place in sys.path))


def _changed(place: str) -> int | None:
    """When something was last put into a directory of ``sys.path``, or taken out; None: it is not there."""
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return None


@lru_cache(maxsize=1)
def _installed_in(_places: tuple[tuple[str, int | None], ...]) -> Sequence[tuple[PluginStatus, Callable[[], object]]]:
    """Read every distribution that is installed: tens of milliseconds where there are many, and every client asks."""
    from importlib import metadata

    entries = sorted(metadata.entry_points(group=PROJECT), key=lambda entry: entry.name)
    return [(PluginStatus(entry.name, cache(partial(_origin, entry))), entry.load) for entry in entries]


def _origin(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return "", ""
    # Its name and its version would each read the whole file.
    read = entry.dist.metadata
    return read["Name"], read["Version"]


def _loaded(plugin: PluginStatus, load: Callable[[], object]) -> object:
    try:
        return load()
    except Exception as error:
        raise PluginError(f"plugin {plugin.label} cannot be imported: {type(error).__name__}: {error}") from error


def _load(claim: Claim) -> Callable[[BackendConfig], Backend]:
    factory: Callable[[BackendConfig], Backend] = _imported(
        claim.plugin, claim.spec, claim.spec.factory, requirement=claim.spec.requirement
    )
    return factory


def _imported(plugin: PluginStatus, spec: PluginPart, target: str, *, requirement: str = "") -> Any:
    module, _, path = target.partition(":")
    try:
        found: Any = import_module(module)
        for name in filter(None, path.split(".")):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        cure = f"; pip install '{requirement}'" if requirement else ""
        raise PluginError(
            f"{kind_of(spec)} {spec.name} of plugin {plugin.label} cannot be imported: {error}{cure}"
        ) from error
    return found


def _made(plugin: PluginStatus, spec: MiddlewareSpec) -> Middleware:
    from tranship.middleware import Middleware

    make = _imported(plugin, spec, spec.factory)
    try:
        made: Any = make()
    except Exception as error:
        raise PluginError(
            f"middleware {spec.name} of plugin {plugin.label} cannot be made: {type(error).__name__}: {error}; "
            f"TRANSHIP_BLOCK_PLUGINS={plugin.name} leaves it out"
        ) from error
    if not isinstance(made, Middleware):
        raise PluginError(
            f"{spec.factory} of plugin {plugin.label} gives {made!r}; expected an object of a subclass of Middleware"
        )
    return made
