"""The arguments of an invocation, as Azolla's clients send them: an object has them by name, null stands for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tranship.errors import InvalidArgumentsError
from tranship.task import Task

__all__ = ["called_with"]

Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def called_with(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Return what ``task`` is called with.

    A single object is the task's only argument where the task takes it so, and has no parameters of those names.
    """
    if kwargs or len(args) != 1:
        return args, kwargs
    (only,) = args
    if isinstance(only, dict) and (_fits(task, only) or not _reads(task, args)):
        return (), only
    if only is None and not _reads(task, args) and _reads(task, ()):
        return (), {}
    return args, kwargs


def _fits(task: Task[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the task has parameters of these names, and needs no others."""
    try:
        if task.arguments is not None:
            task.arguments.takes(**kwargs)
    except TypeError:
        return False
    return True


def _reads(task: Task[..., Any], args: Sequence[Any]) -> bool:
    """Whether the task could be called with these, as they are annotated."""
    try:
        task.coerce(args, {})
    except InvalidArgumentsError:
        return False
    return True
