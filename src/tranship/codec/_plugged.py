"""Codecs of plugins, by content type.

What a message says decides who reads it, far from any registry: this table is of the process, like that of connections.
A content type that is there keeps its codec.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from tranship.errors import EncodeError, MalformedMessage, TranshipError

__all__ = ["Codec", "CodecTable"]


class Codec(Protocol):
    """What a plugin's codec is; a module will do."""

    def dumps(self, value: Any, /) -> bytes:
        """Return ``value`` as bytes, or raise."""

    def loads(self, data: bytes, /) -> Any:
        """Return what ``data`` holds, or raise."""


class CodecTable:
    """Codecs, imported when they are first needed.

    Mutable state: what was plugged in and what was loaded of it, changed only under the lock.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._loaders: dict[str, Callable[[], Codec]] = {}
        self._loaded: dict[str, Codec] = {}

    def __contains__(self, content_type: object) -> bool:
        return content_type in self._loaders

    def __iter__(self) -> Any:
        return iter(sorted(self._loaders))

    def plug(self, content_type: str, load: Callable[[], Codec]) -> None:
        """Have ``load`` give the codec of a content type, unless it has one."""
        with self._lock:
            self._loaders.setdefault(content_type, load)

    def dumps(self, content_type: str, value: Any, name: str) -> bytes:
        """Return ``value`` as bytes.

        Raises:
            EncodeError: the codec cannot write it.
            PluginError: it cannot be imported.
        """
        codec = self._codec(content_type)
        try:
            data = codec.dumps(value)
        except TranshipError:
            raise
        except Exception as error:
            raise EncodeError(f"{name} cannot be written as {content_type}: {type(error).__name__}: {error}") from error
        if not isinstance(data, bytes):
            raise EncodeError(f"the codec of {content_type} gave {type(data).__name__} for {name}; expected bytes")
        return data

    def loads(self, content_type: str, data: bytes) -> Any:
        """Return what ``data`` holds.

        Raises:
            MalformedMessage: whatever the codec raised, or that it cannot be imported.
        """
        try:
            return self._codec(content_type).loads(data)
        except Exception as error:
            raise MalformedMessage(f"{content_type} that cannot be read: {type(error).__name__}: {error}") from error

    def _codec(self, content_type: str) -> Codec:
        with self._lock:
            if content_type not in self._loaded:
                self._loaded[content_type] = self._loaders[content_type]()
            return self._loaded[content_type]
