"""Options, results and artifacts as the operator's annotations want them, with their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from tranship.compat.sandai._operator_errors import ArtifactsError, OptionsError, ResultsError
from tranship.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Shape"]

_MAPS: Final = (dict, Mapping)
_LISTS: Final = (list, Sequence)

Refusal = type[OptionsError] | type[ArtifactsError] | type[ResultsError]


class Shape:
    """What one kind of data has to look like.

    Args:
        what: its name, for messages.
        annotation: a pydantic model, a dataclass, or any other type; None or ``Any``: whatever comes.
        refusal: the error for data that does not fit.

    Raises:
        ConfigurationError: the annotation needs pydantic, which is not installed, or pydantic cannot use it.
    """

    def __init__(self, what: str, annotation: Any, refusal: Refusal) -> None:
        self._what = what
        self._annotation: Any = None if annotation is Any else annotation
        self._refusal = refusal
        self._typed = self._annotation is not None and not _is_plain(self._annotation)
        if self._typed:
            if find_spec("pydantic") is None:
                raise ConfigurationError(
                    f"the {what} of an operator are annotated with {annotation!r}, which pydantic makes of data: "
                    "pip install pydantic, or annotate them with dict"
                )
            _ = self._adapter

    @property
    def is_free(self) -> bool:
        """Whether nothing is asked of the data but that it is data."""
        return not self._typed

    def has(self, field: str) -> bool:
        """Whether the schema names ``field``."""
        return field in (self.schema("validation") or {}).get("properties", {})

    def schema(self, mode: str) -> dict[str, Any] | None:
        """Return the JSON schema, for ``"validation"`` or ``"serialization"``; None: nothing is known.

        Raises:
            ConfigurationError: the annotation has none.
        """
        if not self._typed:
            return None if self._annotation is None else {"type": _kind(self._annotation)}
        try:
            return dict(self._adapter.json_schema(mode="validation" if mode == "validation" else "serialization"))
        except Exception as error:
            raise ConfigurationError(
                f"the {self._what} of an operator are annotated with {self._annotation!r}, which clients cannot be "
                f"told of: {error}"
            ) from error

    def read(self, data: Any) -> Any:
        """Return what the handler is given for ``data``.

        Raises:
            OptionsError, ArtifactsError, ResultsError: it does not fit; the details say where.
        """
        if not self._typed:
            return data
        try:
            return self._adapter.validate_python(data)
        except Exception as error:  # a validator of the user's own may raise anything
            raise self._refused(error) from error

    def write(self, value: Any) -> Any:
        """Return plain data for what the handler returned; a map is read first.

        Raises:
            As :meth:`read`.
        """
        if not self._typed:
            return value
        checked = self.read(value)
        try:
            return self._adapter.dump_python(checked, mode="json", by_alias=True)
        except Exception as error:  # a serialiser of the user's own may raise anything
            raise self._refused(error) from error

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(self._annotation)
        except Exception as error:
            raise ConfigurationError(
                f"the {self._what} of an operator are annotated with {self._annotation!r}, which pydantic cannot "
                f"use: {error}"
            ) from error

    def _refused(self, error: Exception) -> OptionsError | ArtifactsError | ResultsError:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            return self._refusal(f"the {self._what} do not fit: {type(error).__name__}: {error}")
        # Without the values: they may be secret.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        rows = [{"loc": list(one["loc"]), "msg": one["msg"], "type": one["type"]} for one in found]
        reasons = "; ".join(_reason(one["loc"], one["msg"]) for one in found)
        return self._refusal(f"the {self._what} do not fit: {reasons}", errors=rows)


def _reason(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _is_plain(annotation: Any) -> bool:
    """Whether it says no more than that something is decoded data: dict, list, dict[str, Any], list[dict], ..."""
    kind, parts = get_origin(annotation) or annotation, get_args(annotation)
    if kind in _MAPS:
        return not parts or (parts[0] in (str, Any) and _is_plain(parts[1]))
    if kind in _LISTS:
        return not parts or _is_plain(parts[0])
    return kind is Any


def _kind(annotation: Any) -> str:
    return "object" if (get_origin(annotation) or annotation) in _MAPS else "array"
