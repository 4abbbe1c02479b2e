"""The pluggy side: a plugin in, checked backend specs out; one bad plugin does not harm the next."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import pluggy

from tranship import hookspecs
from tranship.errors import PluginError
from tranship.hookspecs import PROJECT, BackendSpec, hookspec

__all__ = ["PluginHost"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_FACTORY = re.compile(r"[\w.]+:[\w.]+")
_HOOKS: Final = ("tranship_register_backends",)


class PluginHost:
    """Holds the plugins of one registry."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        for name in _HOOKS:
            hookspec(getattr(hookspecs, name))
        self._manager.add_hookspecs(hookspecs)

    def add(self, plugin: object, name: str) -> tuple[BackendSpec, ...]:
        """Register ``plugin`` and return what it describes.

        Raises:
            PluginError: it implements no hook, one that does not exist, or describes something impossible;
                it is not registered then.
        """
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            return self._specs(plugin)
        except Exception as error:
            self._manager.unregister(plugin)
            if isinstance(error, PluginError):
                raise
            raise PluginError(f"plugin {name} is broken: {_hint(error)}") from error

    def remove(self, plugin: object) -> None:
        """Forget ``plugin``."""
        self._manager.unregister(plugin)

    def described(self, spec: BackendSpec) -> tuple[BackendSpec, ...]:
        """Return ``spec`` checked, as :meth:`add` returns what a plugin describes.

        Raises:
            PluginError: it describes something impossible.
        """
        return (_checked(spec),)

    def _specs(self, plugin: Any) -> tuple[BackendSpec, ...]:
        if not self._manager.get_hookcallers(plugin):
            raise PluginError(
                f"{plugin!r} implements no hook of tranship; name one of {', '.join(_HOOKS)} "
                "and mark it with tranship.hookspecs.hookimpl"
            )
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        specs: list[BackendSpec] = []
        hook = self._manager.subset_hook_caller("tranship_register_backends", others)
        hook(register=lambda spec: specs.append(_checked(spec)))
        return tuple(specs)


def _checked(spec: Any) -> BackendSpec:
    if not isinstance(spec, BackendSpec):
        raise PluginError(f"register was called with {spec!r}; expected a tranship.hookspecs.BackendSpec")
    schemes: Any = spec.schemes
    if not schemes or not isinstance(schemes, tuple) or not all(_SCHEME.fullmatch(scheme) for scheme in schemes):
        raise PluginError(f"backend {spec.name} has schemes {spec.schemes!r}; expected a tuple such as ('mine',)")
    if not _FACTORY.fullmatch(spec.factory):
        raise PluginError(f"backend {spec.name} has factory {spec.factory!r}; expected 'package.module:Class'")
    return spec


def _hint(error: Exception) -> str:
    if not isinstance(error, pluggy.PluginValidationError):
        return f"{type(error).__name__}: {error}"
    found = re.search(r"unknown hook '(\w+)'", str(error))
    close = difflib.get_close_matches(found[1], _HOOKS, n=1) if found else []
    return str(error) + (f"; did you mean {close[0]}?" if close else "")
