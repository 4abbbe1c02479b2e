"""The pluggy side: a plugin in, checked backend specs out; one bad plugin does not harm the next."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import pluggy

from tranship import codec, hookspecs
from tranship.errors import PluginError
from tranship.hookspecs import (
    HOOKS,
    PROJECT,
    BackendSpec,
    ClassifierSpec,
    CodecSpec,
    CommandSpec,
    MiddlewareSpec,
    PluginPart,
    ResultStoreSpec,
    hookspec,
)
from tranship.registry._version import kind_of

__all__ = ["PluginHost"]

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_FACTORY: Final = re.compile(r"[\w.]+:[\w.]+")
_MODULE: Final = re.compile(r"[\w.]+(:[\w.]+)?")
_CONTENT_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]*")
_TAKEN: Final = frozenset({codec.JSON, codec.MSGPACK, "application/x-python-serialize"})
_TARGETS: Final[dict[type, tuple[str, str]]] = {
    BackendSpec: ("factory", "Class"),
    ResultStoreSpec: ("factory", "make"),
    MiddlewareSpec: ("factory", "make"),
    ClassifierSpec: ("function", "function"),
    CodecSpec: ("codec", "object"),
    CommandSpec: ("target", "app"),
}
"""Of each part: the field that names what is imported, and what stands behind the colon in an example."""
_COMMAND: Final = re.compile(r"[a-z][a-z0-9-]*")


class PluginHost:
    """Holds the plugins of one registry."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        for name in HOOKS:
            hookspec(getattr(hookspecs, name))
        self._manager.add_hookspecs(hookspecs)

    def add(self, plugin: object, name: str) -> tuple[PluginPart, ...]:
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

    def described(self, spec: PluginPart) -> tuple[PluginPart, ...]:
        """Return ``spec`` checked, as :meth:`add` returns what a plugin describes.

        Raises:
            PluginError: it describes something impossible.
        """
        return (_checked(spec, type(spec)),)

    def _specs(self, plugin: Any) -> tuple[PluginPart, ...]:
        if not self._manager.get_hookcallers(plugin):
            raise PluginError(
                f"{plugin!r} implements no hook of tranship; name one of {', '.join(HOOKS)} "
                "and mark it with tranship.hookspecs.hookimpl"
            )
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        specs: list[PluginPart] = []
        for name, kind in HOOKS.items():
            hook = self._manager.subset_hook_caller(name, others)
            hook(register=lambda spec, kind=kind: specs.append(_checked(spec, kind)))
        return tuple(specs)


def _checked(spec: Any, kind: type[PluginPart]) -> PluginPart:
    if type(spec) is not kind:
        raise PluginError(f"register was called with {spec!r}; expected a tranship.hookspecs.{kind.__name__}")
    part: PluginPart = spec
    if isinstance(part, BackendSpec):
        _check_schemes(part)
    elif isinstance(part, CodecSpec):
        _check_content_type(part)
    elif isinstance(part, CommandSpec) and not _COMMAND.fullmatch(part.name):
        raise PluginError(f"command {part.name!r} has no name for a shell; expected small letters, digits, hyphens")
    field, example = _TARGETS[kind]
    pattern = _MODULE if kind is CodecSpec else _FACTORY
    if not pattern.fullmatch(target := getattr(part, field)):
        raise PluginError(f"{kind_of(part)} {part.name} has {field} {target!r}; expected 'package.module:{example}'")
    return part


def _check_schemes(spec: BackendSpec) -> None:
    schemes: Any = spec.schemes
    if not schemes or not isinstance(schemes, tuple) or not all(_SCHEME.fullmatch(scheme) for scheme in schemes):
        raise PluginError(f"{kind_of(spec)} {spec.name} has schemes {schemes!r}; expected a tuple such as ('mine',)")


def _check_content_type(spec: CodecSpec) -> None:
    if not _CONTENT_TYPE.fullmatch(spec.content_type) or spec.content_type in _TAKEN:
        raise PluginError(
            f"codec {spec.name} has content type {spec.content_type!r}; expected one in small letters such as "
            "'application/cbor', other than JSON's and msgpack's, and nothing that runs what it reads"
        )


def _hint(error: Exception) -> str:
    if not isinstance(error, pluggy.PluginValidationError):
        return f"{type(error).__name__}: {error}"
    found = re.search(r"unknown hook '(\w+)'", str(error))
    close = difflib.get_close_matches(found[1], list(HOOKS), n=1) if found else []
    return str(error) + (f"; did you mean {close[0]}?" if close else "")
