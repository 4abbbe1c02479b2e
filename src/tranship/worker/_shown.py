"""What is shown of tasks to programs that look on: short, whatever is in them, and nothing that was to stay hidden."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from tranship import codec
from tranship.announcing import HIDDEN
from tranship.envelope import ErrorInfo
from tranship.errors import MalformedMessage, TranshipError
from tranship.worker._record import Run
from tranship.worker._shorten import beginning

__all__ = ["argument_texts", "error_text", "plain_arguments", "value_text"]

LONGEST: Final = 1024
"""Characters of a text, as Celery cuts them."""
LARGEST: Final = 4096
"""Bytes of JSON of arguments that are shown as they are."""
_MOST_ARGUMENTS: Final = 20
_PLAIN: Final = (bool, float, type(None))


class _Short(reprlib.Repr):
    """Shows plain data; of anything else its class, whose own code is not to run here."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 500, 100
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 20

    def repr_instance(self, value: Any, level: int) -> str:  # noqa: ARG002 - as it is called
        return repr(value) if type(value) in _PLAIN else f"<{type(value).__name__}>"


_SHORT: Final = _Short()


def value_text(value: Any) -> str:
    """Return a value in a line; any thread."""
    return beginning(_SHORT.repr(value), LONGEST)


def error_text(error: ErrorInfo | None) -> str:
    """Return an error as ``repr`` shows exceptions."""
    if error is None:
        return ""
    arguments = [error.message] if error.arguments is None else error.arguments
    shown = ", ".join(map(_SHORT.repr, arguments[:_MOST_ARGUMENTS]))
    return beginning(f"{error.type.rpartition('.')[2]}({shown})", LONGEST)


def argument_texts(run: Run) -> tuple[str, str]:
    """Return positional and keyword arguments as the sender shows them in the message, if it does."""
    headers: Any = run.delivery.message.headers
    if isinstance(headers, bytes | bytearray):
        try:
            headers = codec.loads(bytes(headers), codec.JSON)
        except MalformedMessage:
            headers = {}
    shown = headers if isinstance(headers, Mapping) else {}
    args, kwargs = shown.get("argsrepr"), shown.get("kwargsrepr")
    return _shown(args), _shown(kwargs)


def plain_arguments(run: Run) -> tuple[Any, Any]:
    """Return the arguments as Celery shows them to who asks: as data, unless they are hidden, or large."""
    args, kwargs = argument_texts(run)
    envelope = run.envelope
    if envelope is None or HIDDEN in (args, kwargs):
        return args, kwargs
    plain = list(envelope.args), dict(envelope.kwargs)
    try:
        size = len(codec.dumps(plain))
    except TranshipError:
        size = LARGEST + 1
    return plain if size <= LARGEST else (args, kwargs)


def _shown(text: Any) -> str:
    return beginning(text, LONGEST) if isinstance(text, str) else HIDDEN
