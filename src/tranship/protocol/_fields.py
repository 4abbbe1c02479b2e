"""Reading one field of a map that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tranship.errors import MalformedMessage
from tranship.protocol._headers import MAX_NAME
from tranship.protocol._numbers import FIRST, LAST, is_duration, is_epoch, whole_of

__all__ = ["Fields", "has_text_keys", "kind_of", "moment"]

_MAX_RETRIES: Final = 2**31 - 1
_TEXT: Final = frozenset({str})
_EXAMPLE: Final = "an ISO 8601 date such as '2031-02-03T04:05:06+00:00', or null"


class Fields:
    """A map whose fields are read one by one; absent and null are the same.

    Args:
        part: what errors call a field, such as ``"message header"``.
        values: the map.
        task_id: whose it is, once that is known.
    """

    __slots__ = ("part", "task_id", "values")

    def __init__(self, part: str, values: Mapping[str, Any], task_id: str | None = None) -> None:
        self.part = part
        self.values = values
        self.task_id = task_id

    def wrong(self, name: str, expected: str) -> MalformedMessage:
        """Return the error for the field ``name``."""
        value = self.values.get(name)
        found = kind_of(value) if name in self.values else "missing"
        return MalformedMessage(f"{self.part} {name!r} is {found}; expected {expected}", task_id=self.task_id)

    def name(self, name: str) -> str:
        """Return the text of a field that has to be there, such as the task's name."""
        value = self.text(name)
        if not value or len(value) > MAX_NAME:
            raise self.wrong(name, f"a text of 1 to {MAX_NAME} characters")
        return value

    def text(self, name: str) -> str | None:
        """Return a text that can be written as UTF-8."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(name, "a text, or null")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self.wrong(name, "a text without lone surrogates") from None
        return value

    def flag(self, name: str) -> bool | None:
        """Return a boolean."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true, false or null")
        return value

    def count(self, name: str) -> int:
        """Return a whole number of at least 0; 0 when there is none."""
        value = self.values.get(name)
        if value is None:
            return 0
        count = None if isinstance(value, str | bytes) else whole_of(value, most=_MAX_RETRIES)
        if count is None:
            raise self.wrong(name, f"a whole number of 0 to {_MAX_RETRIES}, or null")
        return count

    def seconds(self, name: str) -> float | None:
        """Return a duration."""
        value = self.values.get(name)
        if value is not None and not is_duration(value):
            raise self.wrong(name, "a number of seconds of at least 0, or null")
        return value

    def epoch(self, name: str) -> float | None:
        """Return a point in time given as a number."""
        value = self.values.get(name)
        if value is not None and not is_epoch(value):
            raise self.wrong(name, "epoch seconds within the years 1 to 9999, or null")
        return value

    def date(self, name: str) -> float | None:
        """Return a point in time given as an ISO 8601 date."""
        value = self.values.get(name)
        if value is None:
            return None
        epoch = moment(value)
        if epoch is None:
            raise self.wrong(name, _EXAMPLE)
        return epoch


def moment(value: Any) -> float | None:
    """Return the epoch seconds of an ISO 8601 date, UTC if it names no zone; None: it is no such date."""
    try:
        date = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(date, datetime):
            return None
        epoch = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return epoch if FIRST <= epoch <= LAST else None


def has_text_keys(values: Mapping[Any, Any]) -> bool:
    """Whether every key is a text."""
    return set(map(type, values)) <= _TEXT


def kind_of(value: Any) -> str:
    """Return what ``value`` is, in JSON's words and in few of them."""
    if isinstance(value, str):
        return f"the text {value[:60]!r}" if value else "an empty text"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "null" if value is None else f"of type {type(value).__name__}"
