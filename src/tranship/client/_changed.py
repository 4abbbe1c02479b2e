"""What a middleware has made of an envelope: looked at, for a dataclass takes whatever it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tranship.checks import header_names, invalid, name_text
from tranship.envelope import Envelope, Priority
from tranship.retry import RetryPolicy

__all__ = ["check_changed"]


def check_changed(envelope: Envelope) -> None:
    """Look at the fields that nothing looks at on the way to the broker.

    Raises:
        InvalidOptionError: one of them is nothing of its kind.
    """
    given: Any = envelope
    name_text("queue", given.queue)
    # What is in them may be secret.
    if not isinstance(given.args, list | tuple):
        raise invalid("args", type(given.args), "a list or a tuple")
    if not isinstance(given.kwargs, Mapping):
        raise invalid("kwargs", type(given.kwargs), "a mapping")
    header_names("headers", given.headers)
    if not isinstance(given.priority, Priority):
        raise invalid("priority", given.priority, "a Priority, such as Priority.HIGH")
    if given.retry is not None and not isinstance(given.retry, RetryPolicy):
        raise invalid("retry", given.retry, "a RetryPolicy, or None")
