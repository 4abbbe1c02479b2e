"""Finding workers and tasks by name: ``module`` or ``module:object``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, runtime_checkable

from tranship.errors import ConfigurationError, TranshipError
from tranship.task import Task, task_of
from tranship.worker import Worker

__all__ = ["ModuleFailedError", "load_module", "load_object", "load_work", "passed_over"]

Tasks = list[Task[..., Any]]


@runtime_checkable
class MakesWorker(Protocol):
    """What stands for a worker, such as an operator of another system."""

    def worker(self) -> Worker:
        """Return a worker that is not at work."""


class ModuleFailedError(TranshipError):
    """A module of the user's raised while it was imported.

    Attributes:
        detail: where, in frames of the user's own code.
    """

    code = "MODULE_FAILED"

    def __init__(self, message: str, *, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


def load_work(targets: Sequence[str]) -> Worker | Tasks:
    """Return the worker that a single target names, or the tasks of all targets.

    Raises:
        ConfigurationError: a target that is not there, is neither, or has no tasks.
        ModuleFailedError: a module raised.
    """
    found = [(target, _work(target)) for target in targets]
    if len(found) == 1:
        return found[0][1]
    for target, work in found:
        if isinstance(work, Worker):
            raise ConfigurationError(
                f"{target} is a Worker, which runs alone; name it alone, or name modules with tasks"
            )
    return [task for _, work in found if not isinstance(work, Worker) for task in work]


def passed_over(targets: Sequence[str]) -> list[str]:
    """Return the targets to write for the workers of modules that stand for their tasks: ``app:worker``."""
    modules = ((target, load_module(target)) for target in targets if ":" not in target)
    return [f"{target}:{name}" for target, module in modules for name in _workers(module)]


def load_object(target: str) -> Any:
    """Return what ``module:object`` names; ``object`` may have dots.

    Raises:
        ConfigurationError, ModuleFailedError: as :func:`load_work`.
    """
    name, _, path = target.partition(":")
    found: Any = load_module(name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{name!r} has no {path!r}{_guess(part, _names(found))}")
        found = getattr(found, part)
    return found


def _work(target: str) -> Worker | Tasks:
    name, separator, path = target.partition(":")
    if separator and not path:
        raise ConfigurationError(f"{target!r} names no object behind the ':'; write {name} or {name}:worker")
    if not separator:
        return _tasks_of(load_module(name))
    found = task_of(load_object(target))
    if isinstance(found, Worker):
        return found
    if isinstance(found, Task):
        return [found]
    if isinstance(found, MakesWorker) and not isinstance(found, type) and isinstance(made := found.worker(), Worker):
        return made
    raise ConfigurationError(f"{target} is {_a(found)}; expected a Worker or a function decorated with @task")


def _tasks_of(module: ModuleType) -> Tasks:
    named = list(map(task_of, vars(module).values()))
    found = [value for value in named if isinstance(value, Task) and value.function is not None]
    if not found:
        raise ConfigurationError(
            f"module {module.__name__!r} has no tasks; decorate functions with @task, or name a worker: "
            f"{module.__name__}:worker"
        )
    return found


def _workers(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Worker)]


def load_module(name: str) -> ModuleType:
    """Return the module ``name``, looked for in the current directory first.

    Raises:
        ConfigurationError, ModuleFailedError: as :func:`load_work`.
    """
    if name.endswith(".py") or "/" in name:
        raise ConfigurationError(f"{name!r} is a path; give the module's name: {_dotted(name)!r}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"{name!r} is no module name; expected MODULE or MODULE:OBJECT")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        raise ConfigurationError(
            f"there is no module {error.name!r}{_guess(error.name, _modules(here))}; looked in {here} and in what "
            "is installed"
        ) from None
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> ModuleFailedError:
    shown = traceback.TracebackException(type(error), error, _users(error.__traceback__))
    *where, last = shown.format_exception_only()
    detail = "".join([*shown.stack.format(), *where])
    return ModuleFailedError(f"importing module {name!r} failed: {last.strip()}", detail=detail)


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames and those of the import machinery, which come first."""
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")


def _dotted(path: str) -> str:
    return path.removesuffix(".py").strip("./").replace("/", ".")


def _guess(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _modules(directory: str) -> list[str]:
    return [module.name for module in pkgutil.iter_modules([directory])]


def _names(found: Any) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
