"""What a plugin implements: mark a function with :data:`hookimpl` and name its module as an entry point.

::

    # pyproject.toml
    [project.entry-points.tranship]
    mine = "tranship_mine.plugin"

    # tranship_mine/plugin.py: imports nothing heavy
    from tranship.hookspecs import BackendSpec, hookimpl

    @hookimpl
    def tranship_register_backends(register):
        register(BackendSpec(name="mine", schemes=("mine",), factory="tranship_mine.backend:MineBackend"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

__all__ = [
    "API_VERSION",
    "HOOKS",
    "PROJECT",
    "BackendSpec",
    "ClassifierSpec",
    "CodecSpec",
    "CommandSpec",
    "MiddlewareSpec",
    "PluginPart",
    "ResultStoreSpec",
    "hookimpl",
    "hookspec",
    "tranship_register_backends",
    "tranship_register_classifiers",
    "tranship_register_codecs",
    "tranship_register_commands",
    "tranship_register_middleware",
    "tranship_register_result_stores",
]

API_VERSION: Final = (2, 0)
"""Of the ports and hooks: a plugin of another major is refused, of a newer minor is warned about."""

PROJECT: Final = "tranship"
"""pluggy's project name, and the group of the entry points."""

F = TypeVar("F", bound=Callable[..., Any])


def hookimpl(function: F) -> F:
    """Mark ``function`` as the implementation of the hook of the same name."""
    from pluggy import HookimplMarker

    return HookimplMarker(PROJECT)(function)


def hookspec(function: F) -> F:
    """Mark ``function`` as a hook that plugins may implement."""
    from pluggy import HookspecMarker

    return HookspecMarker(PROJECT)(function)


class BackendSpec(NamedTuple):
    """A backend, described without importing it."""

    name: str
    schemes: tuple[str, ...]
    """URL schemes it serves, in lower case."""
    factory: str
    """``"package.module:Class"``, imported when a URL of its schemes is opened; called with a BackendConfig."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    requirement: str = ""
    """What ``pip install`` needs to be told when the factory's imports fail, such as ``"redis>=6"``."""
    yields: tuple[str, ...] = ()
    """Those of ``schemes`` that it leaves to any other plugin that serves them."""
    api_version: tuple[int, int] = API_VERSION
    """The :data:`API_VERSION` it was written for, as numbers; not given: the one that is here."""


class ResultStoreSpec(BackendSpec):
    """Something that keeps results and takes no tasks, for ``result_url``, described without importing it.

    Its factory returns what :func:`tranship.driver.result_store` makes of a table.
    """

    __slots__ = ()


class MiddlewareSpec(NamedTuple):
    """A middleware that is around every message of every client and worker, described without importing it."""

    name: str
    factory: str
    """``"package.module:make"``: called without arguments, once in a process, when a client opens or a worker is made;
    gives a Middleware."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    api_version: tuple[int, int] = API_VERSION
    """As :attr:`BackendSpec.api_version`."""


class ClassifierSpec(NamedTuple):
    """What the exceptions of some library mean when a handler raises them, described without importing it."""

    name: str
    function: str
    """``"package.module:function"``: called with an exception; gives what is to be raised in its place (a TaskError,
    Retry, Reject), or None: not one of its own."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    api_version: tuple[int, int] = API_VERSION
    """As :attr:`BackendSpec.api_version`."""


class CodecSpec(NamedTuple):
    """A way to write the arguments of tasks as bytes, described without importing it."""

    name: str
    content_type: str
    """Such as ``"application/cbor"``: what messages say, and what ``@task(serializer=...)`` names."""
    codec: str
    """``"package.module"`` or ``"package.module:object"``: what has ``dumps(value) -> bytes`` and ``loads(bytes)``.
    Nothing that it reads may be run: no pickle."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    api_version: tuple[int, int] = API_VERSION
    """As :attr:`BackendSpec.api_version`."""


class CommandSpec(NamedTuple):
    """A command of the ``tranship`` program, described without importing it."""

    name: str
    """What is typed behind ``tranship``: small letters, digits and hyphens."""
    target: str
    """``"package.module:object"``: a typer application, or a function that typer makes a command of."""
    summary: str = ""
    """One line for ``tranship plugins``."""
    api_version: tuple[int, int] = API_VERSION
    """As :attr:`BackendSpec.api_version`."""


PluginPart = BackendSpec | MiddlewareSpec | ClassifierSpec | CodecSpec | CommandSpec
"""Whatever a plugin may describe."""


def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Call ``register`` once for each backend. Called once, when the plugin is loaded."""


def tranship_register_result_stores(register: Callable[[ResultStoreSpec], None]) -> None:
    """Call ``register`` once for each store that keeps results and takes no tasks."""


def tranship_register_middleware(register: Callable[[MiddlewareSpec], None]) -> None:
    """Call ``register`` once for each middleware; the first is the outermost."""


def tranship_register_classifiers(register: Callable[[ClassifierSpec], None]) -> None:
    """Call ``register`` once for each library whose exceptions are told apart."""


def tranship_register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Call ``register`` once for each content type that can be written and read."""


def tranship_register_commands(register: Callable[[CommandSpec], None]) -> None:
    """Call ``register`` once for each command."""


HOOKS: Final[Mapping[str, type[PluginPart]]] = {
    "tranship_register_backends": BackendSpec,
    "tranship_register_result_stores": ResultStoreSpec,
    "tranship_register_middleware": MiddlewareSpec,
    "tranship_register_classifiers": ClassifierSpec,
    "tranship_register_codecs": CodecSpec,
    "tranship_register_commands": CommandSpec,
}
"""Every hook, and what its ``register`` is called with."""
