"""What a backend is given: its URL, the options every backend has, and state to share in the process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol, TypeVar

from tranship.checks import name_text, positive, whole
from tranship.settings._redact import REDACTED, is_secret
from tranship.settings._url import BrokerURL

__all__ = ["BackendConfig", "CommonOptions", "SharedState"]

T = TypeVar("T")

_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """URL options that every backend understands; a backend adds its own in a subclass.

    Times are seconds. A subclass with a ``__post_init__`` of its own calls this one first. ``repr()`` shows no value
    of an option whose name says that it is secret, in subclasses either.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    namespace: str = ""
    """Prefixes every name on the broker; two namespaces never see each other."""
    lease: float = 30.0
    """How long a worker that went silent keeps a task."""
    result_ttl: float = 86400.0
    """How long a result is kept."""
    dedup_window: float = 3600.0
    """How long a dedup key stays taken."""
    max_message_size: int = 16 * _MEBIBYTE
    """Bytes of body and headers together."""
    knows_ids: bool = False
    """Keep the id of each task that is submitted, for ``result_ttl`` at least, so that an unknown id is told from a
    pending one also where the queues have no index; for everybody who submits, and at the store that keeps results."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__repr__" not in cls.__dict__:
            # Set before the dataclass decorator looks: it would write one that shows every value.
            cls.__repr__ = CommonOptions.__repr__  # type: ignore[method-assign]  # a class is made here

    def __repr__(self) -> str:
        shown = (
            f"{part.name}={REDACTED if is_secret(part.name) and value is not None else repr(value)}"
            for part in fields(self)
            for value in [getattr(self, part.name)]
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __post_init__(self) -> None:
        if self.namespace:
            name_text("namespace", self.namespace)
        for name in ("lease", "result_ttl", "dedup_window"):
            positive(name, getattr(self, name))
        whole("max_message_size", self.max_message_size)


class SharedState(Protocol):
    """Get-or-create of what the backends of one process share, such as an in-memory broker."""

    def __call__(self, key: Hashable, create: Callable[[], T], /) -> T:
        """Return what is kept under ``key``, calling ``create`` when there is nothing yet. Any thread."""


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What a backend's class is called with."""

    url: BrokerURL
    """The URL it was asked for by: scheme, host, port, path, credentials, options."""
    shared: SharedState
    """Get-or-create of what all backends of the process have in common, by a key of yours."""
    create: Callable[[BrokerURL], Any] | None = None
    """Makes the backend of another URL, not opened, for backends that are made of backends; None: there is no
    registry to ask."""

    def options_as(self, cls: type[T]) -> T:
        """Return the dataclass ``cls`` filled from the URL's options.

        Raises:
            InvalidOptionError: an option ``cls`` does not have, or a value it does not take.
        """
        return self.url.options_as(cls)
