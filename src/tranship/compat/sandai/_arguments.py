"""Checks of what callers give: each error names the argument, the value and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from tranship.checks import invalid
from tranship.errors import InvalidArgumentsError

__all__ = ["check_input", "flag", "seconds"]


def seconds(option: str, value: Any) -> float:
    """Return ``value``, a number of seconds; one below zero is a time that has passed.

    Raises:
        InvalidOptionError: it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise invalid(option, value, "a number of seconds")
    return float(value)


def check_input(artifacts: Any, options: Any) -> None:
    """Do nothing, if that is what an operator can be given.

    Raises:
        InvalidArgumentsError: it is not.
    """
    if not isinstance(artifacts, list | tuple):
        raise InvalidArgumentsError(f"input_artifacts is {artifacts!r}; expected a list of maps with uri and slot")
    if not isinstance(options, Mapping):
        raise InvalidArgumentsError(f"options is {options!r}; expected a map")


def flag(option: str, value: Any) -> bool:
    """Return ``value``, True or False.

    Raises:
        InvalidOptionError: it is neither.
    """
    if not isinstance(value, bool):
        raise invalid(option, value, "True or False")
    return value
