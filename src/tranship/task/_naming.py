"""The name of a task that was given none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tranship.errors import ConfigurationError

__all__ = ["default_name"]

_MAIN: Final = ("__main__", "__mp_main__")


def default_name(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``, the same in the script that submits and in the worker that imports it.

    In ``__main__`` the module is the one that ``python -m`` was given, else the stem of the script's file.

    Raises:
        ConfigurationError: a lambda, a nested function or an object without a name; give it one.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name:
        raise ConfigurationError(f"{function!r} has no name of its own; give it one: task(name='module.name')(...)")
    if "<lambda>" in name or "<locals>" in name:
        kind = "lambda" if "<lambda>" in name else "function inside of a function"
        raise ConfigurationError(
            f"{module}.{name} is a {kind}, which no worker can import; define it at the top of a module, "
            "or give it a name: @task(name='module.name')"
        )
    return f"{_main_module() if module in _MAIN else module}.{name}"


def _main_module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    # Typed into an interpreter: there is no other name.
    return Path(file).stem if file else "__main__"
