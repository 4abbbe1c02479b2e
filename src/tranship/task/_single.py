"""Tasks of which there is one at a time: what makes two submits the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from tranship import codec
from tranship.errors import InvalidOptionError
from tranship.task._options import TaskOptions

if TYPE_CHECKING:
    from tranship.task._task import Task

__all__ = ["Single", "single_of"]


@dataclass(frozen=True, slots=True)
class Single:
    """How submits of a task are told apart, and what becomes of the second one.

    Args:
        fields: the arguments that count; None: all of them.
        debounce: seconds for which it must be quiet before the last one runs; None: the first one counts, for as long
            as it has not ended.
    """

    fields: Sequence[str] | None
    debounce: float | None

    @property
    def option(self) -> str:
        """The option that asks for it."""
        return "unique" if self.debounce is None else "debounce"

    def key(self, task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the key of the record that submits of this kind share.

        Raises:
            InvalidOptionError: a field is no argument of the task.
            EncodeError: what cannot be written cannot be compared.
        """
        given, more = _named(task, args, kwargs)
        if self.fields is not None:
            given, more = {name: self._value(name, task, given) for name in self.fields}, []
        # Written as it travels, and then in one order whatever the caller's was.
        plain = json.loads(codec.dumps([task.name, given, more], name=f"what makes task {task.name} {self.option}"))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return f"{self.option}/{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"

    def _value(self, name: str, task: Task[..., Any], given: Mapping[str, Any]) -> Any:
        if name not in given:
            raise InvalidOptionError(
                f"{self.option} of task {task.name} counts {name!r}, which this call does not have by name (it has: "
                f"{', '.join(given) or 'nothing'})",
                option=self.option,
            )
        return given[name]


def single_of(task: str, options: TaskOptions) -> Single | None:
    """Return what the options of a task say; None: every submit is a task.

    Raises:
        InvalidOptionError: options that contradict each other.
    """
    unique, debounce = options.unique, options.debounce
    if debounce is None and options.debounce_by is not None:
        raise InvalidOptionError(f"task {task} has debounce_by and no debounce; say for how long", option="debounce")
    wanted = "debounce" if debounce is not None else "unique" if unique else None
    if wanted is None:
        return None
    for other in ("dedup_key", *(("unique", "delay", "not_before") if wanted == "debounce" else ())):
        if getattr(options, other):
            raise InvalidOptionError(f"task {task} has {wanted} and {other}; give one of them", option=wanted)
    if options.store_result is False:
        raise InvalidOptionError(
            f"task {task} has {wanted} and store_result=False, and its end is known by its result; leave one out",
            option=wanted,
        )
    if wanted == "unique":
        return Single(None if unique is True else tuple(unique or ()), None)
    seconds: Any = debounce  # checked and converted when the options were made
    return Single(options.debounce_by, float(seconds))


def _named(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], Sequence[Any]]:
    """Return the arguments by name, those that were not given as well, and those that have no name."""
    _, names = task.places
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    signature = getattr(task.arguments, "signature", None)
    for parameter in () if signature is None else signature.parameters.values():
        if parameter.default is not Parameter.empty:
            given.setdefault(parameter.name, parameter.default)
    return given, args[len(names) :]
