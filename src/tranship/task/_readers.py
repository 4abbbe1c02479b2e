"""One reader: data into what one annotation says, by pydantic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tranship.errors import InvalidArgumentsError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["Read", "reader"]


class Read:
    """Reads what one parameter, or the result, is made of.

    Fields are found by their names, which we write, and by their aliases, which others may write. Strict fields take
    what JSON can say of their type: a message has no more than that.

    Args:
        what: what is read, for errors.
        adapter: pydantic's, for the annotation.
    """

    def __init__(self, what: str, adapter: TypeAdapter[Any]) -> None:
        self.what = what
        self._adapter = adapter
        self._named: dict[str, Any] = {"by_name": True} if _finds_by_name() else {}

    def __call__(self, value: Any) -> Any:
        """Return what ``value`` stands for.

        Raises:
            InvalidArgumentsError: it is no such data; the message names the field, never the value.
        """
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(value, **self._named)
        except ValidationError as error:
            return self._strictly(value, error)
        except Exception as error:  # a validator of the user's own may raise anything
            raise self._refused(f"{type(error).__name__}: {error}") from error

    def _strictly(self, value: Any, refusal: ValidationError) -> Any:
        """Read ``value``, which Python's rules refuse, by those of JSON: a strict date may be text there."""
        from pydantic import ValidationError
        from pydantic_core import to_json

        try:
            return self._adapter.validate_json(to_json(value, inf_nan_mode="constants"), **self._named)
        except ValidationError as error:
            fewer = min(refusal, error, key=lambda one: one.error_count())
            raise self._refused(_reasons(fewer)) from fewer
        except Exception:  # noqa: BLE001 - what JSON cannot carry has had its reading
            raise self._refused(_reasons(refusal)) from refusal

    def _refused(self, why: str) -> InvalidArgumentsError:
        return InvalidArgumentsError(f"{self.what}: {why}")


def reader(what: str, model: Any) -> Read:
    """Return the reader for the annotation ``model``.

    Raises:
        InvalidArgumentsError: pydantic cannot make it of data.
    """
    try:
        from pydantic import TypeAdapter

        return Read(what, TypeAdapter(model))
    except Exception as error:
        raise InvalidArgumentsError(f"{what} cannot be made of data by pydantic: {error}") from error


def _finds_by_name() -> bool:
    """Whether this pydantic can be told to find fields by their names, aliases or not: from 2.11 on."""
    from pydantic import VERSION

    return tuple(map(int, VERSION.split(".")[:2])) >= (2, 11)


def _reasons(error: ValidationError) -> str:
    """The field and the reason of each error, without the values: they may be secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in found)
