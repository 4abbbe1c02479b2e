"""``azolla-worker``, which the distribution ``tranship-azolla`` installs: run one task, and report how it ended."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tranship.compat.azolla._internal.utils import get_logger, setup_logging
from tranship.compat.azolla.exceptions import WorkerError
from tranship.compat.azolla.task import Task
from tranship.compat.azolla.worker import Worker, WorkerInvocation
from tranship.errors import TranshipError
from tranship.task import Task as CoreTask

__all__ = ["discover_and_register_tasks", "worker_main", "worker_main_sync"]

log: logging.Logger = get_logger("tranship.compat.azolla.cli")


def worker_main_sync() -> None:
    """Run the command, and end the process with 0, or with 1 when the task failed or could not be run."""
    sys.exit(asyncio.run(worker_main()))


async def worker_main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments``, those of the process if None; return its exit code."""
    given = _parser().parse_args(arguments)
    setup_logging(given.log_level)
    try:
        execution = await _worker(getattr(given, "task_modules", ())).run_invocation(_invocation(given, os.environ))
    except TranshipError as error:
        log.error("the worker has failed: %s", error)  # noqa: TRY400 - a traceback says nothing more
        return 1
    if execution.error is not None:
        log.error("task %s failed: %s", execution.task_id, execution.error)
        return 1
    log.info("task %s completed successfully", execution.task_id)
    return 0


def discover_and_register_tasks(worker: Worker, module_names: Sequence[str]) -> int:
    """Import modules, looked for in the current directory as well, and register the tasks in them; return how many.

    Raises:
        WorkerError: there is no such module, or it raised.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = [
        one
        for name in module_names
        for one in vars(_imported(name)).values()
        if isinstance(one, Task) or (isinstance(one, CoreTask) and one.function is not None)
    ]
    for one in found:
        worker.register_task(one)
    return len(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="azolla-worker",
        description="Run one task in this process, and report how it ended.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    # Of what has no default the formatter would say that it is None.
    needed: dict[str, Any] = {"required": True, "default": argparse.SUPPRESS}
    parser.add_argument("--task-id", **needed, help="the task's id, under which its result is reported")
    parser.add_argument("--name", **needed, help="the task's name")
    parser.add_argument("--args", default="[]", help="its arguments, as a JSON array")
    parser.add_argument("--kwargs", default="{}", help="its keyword arguments, as a JSON object")
    parser.add_argument("--shepherd-endpoint", **needed, help="where the result is reported: a broker's URL")
    parser.add_argument("--task-modules", nargs="*", default=argparse.SUPPRESS, help="modules with tasks")
    levels = ["DEBUG", "INFO", "WARNING", "ERROR"]
    parser.add_argument("--log-level", choices=levels, default="INFO", help="what is logged, on stderr")
    return parser


def _worker(modules: Sequence[str]) -> Worker:
    worker = Worker()
    count = discover_and_register_tasks(worker, modules)
    log.info("registered %d tasks of %s", count, ", ".join(modules) or "no module")
    return worker


def _invocation(given: argparse.Namespace, environ: Mapping[str, str]) -> WorkerInvocation:
    return WorkerInvocation.from_json(
        task_id=given.task_id,
        task_name=given.name,
        args_json=_expanded(given.args, environ),
        kwargs_json=_expanded(given.kwargs, environ),
        shepherd_endpoint=given.shepherd_endpoint,
    )


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return a variable's value for ``$NAME``: Azolla's document has it in single quotes, where no shell looks."""
    return environ.get(text[1:], text) if text.startswith("$") else text


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise WorkerError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
