"""One reader: data into what one annotation says, by pydantic where it is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

from tranship.errors import InvalidArgumentsError
from tranship.task._understood import understood

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["Read", "has_pydantic", "reader"]

_SHOWN: Final = 5
"""Errors of one value that are told: a list of a thousand texts where numbers are expected has a thousand."""


class Read(Protocol):
    """Reads what one parameter, or the result, is made of.

    Attributes:
        what: what is read, for errors.
    """

    what: str

    def __call__(self, value: Any, /) -> Any:
        """Return what ``value`` stands for.

        Raises:
            InvalidArgumentsError: it is no such data; the message names the field and types, never the value.
        """


@cache
def has_pydantic() -> bool:
    """Whether pydantic is installed; it is not imported."""
    return find_spec("pydantic") is not None


def reader(what: str, annotation: Any, *, strict: bool = False) -> Read:
    """Return the reader for ``annotation``.

    Args:
        what: what is read, for errors.
        annotation: a type hint.
        strict: nothing is converted that JSON could have said as it is: text is no number.

    Raises:
        InvalidArgumentsError: it cannot be made of data.
    """
    if not has_pydantic():
        from tranship.task._plain import PlainReader

        return PlainReader(what, annotation, strict=strict)
    try:
        from pydantic import TypeAdapter

        return _PydanticReader(what, TypeAdapter(understood(annotation)), strict=strict)
    except Exception as error:
        raise InvalidArgumentsError(f"{what} cannot be made of data by pydantic: {error}") from error


class _PydanticReader:
    """Fields are found by their names, which we write, and by their aliases, which others may write. Strict fields take
    what JSON can say of their type: a message has no more than that.
    """

    def __init__(self, what: str, adapter: TypeAdapter[Any], *, strict: bool) -> None:
        self.what = what
        self._adapter = adapter
        self._options: dict[str, Any] = {"by_name": True} if _finds_by_name() else {}
        if strict:
            self._options["strict"] = True

    def __call__(self, value: Any, /) -> Any:
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(value, **self._options)
        except ValidationError as error:
            return self._strictly(value, error)
        except Exception as error:  # a validator of the user's own may raise anything
            raise self._refused(f"{type(error).__name__}: {error}") from error

    def _strictly(self, value: Any, refusal: ValidationError) -> Any:
        """Read ``value``, which Python's rules refuse, by those of JSON: a strict date may be text there."""
        from pydantic import ValidationError
        from pydantic_core import to_json

        if isinstance(value, bytes | bytearray):
            raise self._refused(_reasons(refusal)) from refusal  # JSON has no bytes, but pydantic writes them as text
        try:
            return self._adapter.validate_json(to_json(value, inf_nan_mode="constants"), **self._options)
        except ValidationError as error:
            # Python's rules say of a list that it is no tuple, those of JSON which part of it is wrong.
            both = (error, refusal) if "strict" in self._options else (refusal, error)
            fewer = min(both, key=lambda one: one.error_count())
            raise self._refused(_reasons(fewer)) from fewer
        except Exception:  # noqa: BLE001 - what JSON cannot carry has had its reading
            raise self._refused(_reasons(refusal)) from refusal

    def _refused(self, why: str) -> InvalidArgumentsError:
        return InvalidArgumentsError(f"{self.what}: {why}")


def _finds_by_name() -> bool:
    """Whether this pydantic can be told to find fields by their names, aliases or not: from 2.11 on."""
    from pydantic import VERSION

    return tuple(map(int, VERSION.split(".")[:2])) >= (2, 11)


def _reasons(error: ValidationError) -> str:
    """The field, the reason and the type of the first errors, without the values: they may be secret."""
    found = error.errors(include_url=False, include_context=False)
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "; ".join([*map(_reason, found[:_SHOWN]), *more])


def _reason(one: Any) -> str:
    got = "" if one["type"] == "missing" else f", got {_a(one['input'])}"
    return ": ".join(filter(None, (".".join(map(str, one["loc"])), f"{one['msg']}{got}")))


def _a(value: Any) -> str:
    return "None" if value is None else type(value).__qualname__
