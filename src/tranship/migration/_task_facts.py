"""What a Celery app says of its tasks."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["RetryFacts", "TaskFacts", "facts_of"]

_OWN: Final = "celery."
"""The names of Celery's own tasks begin so."""
_HOOKS: Final = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
_DEFAULT_PRIORITIES: Final = (None, 0)


@dataclass(frozen=True, kw_only=True)
class RetryFacts:
    """How Celery retries a task by itself (``autoretry_for``), or how often it may ask for that."""

    max_retries: int | None
    """None: without end."""
    delay: float
    backoff: float
    """The first delay of one that doubles; 0: ``delay`` each time."""
    backoff_max: float
    jitter: bool
    on: Sequence[str]
    """Qualified names of exceptions; empty: only what the task asks for itself."""
    never_on: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """One task."""

    name: str
    module: str
    queue: str
    bound: bool
    """Whether its function takes the task itself first."""
    is_async: bool
    signature: str
    """Of its function, without annotations and without the task itself."""
    call: str
    """The arguments in a call that hands all of them on."""
    uses: Sequence[str]
    """What its function uses of the task itself, such as ``retry`` and ``request.retries``."""
    retry: RetryFacts | None
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | None
    ignore_result: bool
    acks_late: bool
    reject_on_worker_lost: bool
    serializer: str
    expires: Any
    priority: int | None
    hooks: Sequence[str]
    """Methods of its own class that Celery calls beside it."""
    pydantic: bool


def facts_of(app: Any) -> list[TaskFacts]:
    """Return what ``app`` says of its tasks, by name; not Celery's own."""
    return [_facts(app, name, task) for name, task in sorted(app.tasks.items()) if not name.startswith(_OWN)]


def _facts(app: Any, name: str, task: Any) -> TaskFacts:
    # With autoretry_for, run is Celery's own, around it.
    run = getattr(task, "_orig_run", task.run)
    bound = inspect.ismethod(run)
    uses = _uses(run) if bound else ()
    return TaskFacts(
        name=name,
        module=str(run.__module__),
        queue=_queue(app, name, task),
        bound=bound,
        is_async=inspect.iscoroutinefunction(run),
        signature=_signature(run),
        call=_call(run),
        uses=uses,
        retry=_retry(task, uses),
        time_limit=_seconds(task.time_limit or app.conf.task_time_limit),
        soft_time_limit=_seconds(task.soft_time_limit or app.conf.task_soft_time_limit),
        rate_limit=None if task.rate_limit is None else str(task.rate_limit),
        ignore_result=bool(task.ignore_result),
        acks_late=bool(task.acks_late),
        reject_on_worker_lost=bool(task.reject_on_worker_lost),
        serializer=str(task.serializer or "json"),
        expires=task.expires,
        priority=None if task.priority in _DEFAULT_PRIORITIES else int(task.priority),
        hooks=[hook for hook in _HOOKS if not _is_celerys(getattr(type(task), hook, None))],
        pydantic=bool(getattr(task, "pydantic", False)),
    )


def _queue(app: Any, name: str, task: Any) -> str:
    """Return where the task is sent to, as Celery itself finds it: by its own options, ``task_routes``, the default."""
    own = {"queue": task.queue} if getattr(task, "queue", None) else {}
    routed = app.amqp.router.route(own, name, args=(), kwargs={})
    queue = routed.get("queue") or app.conf.task_default_queue
    return str(getattr(queue, "name", queue))


def _retry(task: Any, uses: Sequence[str]) -> RetryFacts | None:
    # The decorator keeps these at the task.
    on = [_qualified(one) for one in getattr(task, "autoretry_for", None) or ()]
    if not on and "retry" not in uses:
        return None
    backoff = getattr(task, "retry_backoff", False)
    return RetryFacts(
        max_retries=task.max_retries,
        delay=float(task.default_retry_delay),
        backoff=float(backoff) if backoff else 0.0,
        backoff_max=float(getattr(task, "retry_backoff_max", 600)),
        jitter=bool(getattr(task, "retry_jitter", True)),
        on=on,
        never_on=[_qualified(one) for one in getattr(task, "dont_autoretry_for", None) or ()],
    )


def _qualified(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _is_celerys(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "celery")).split(".")[0] == "celery"


# The function.


def _parameters(run: Any) -> list[inspect.Parameter]:
    function = inspect.unwrap(getattr(run, "__func__", run))
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if inspect.ismethod(run) else found


def _signature(run: Any) -> str:
    plain = [one.replace(annotation=inspect.Parameter.empty, default=_default(one.default)) for one in _parameters(run)]
    return str(inspect.Signature(plain))


class _Shown:
    """A default that stands in the skeleton as ``...``."""

    def __repr__(self) -> str:
        return "..."


def _default(value: Any) -> Any:
    plain = value is inspect.Parameter.empty or isinstance(value, str | int | float | bool | bytes | None)
    return value if plain else _Shown()


def _call(run: Any) -> str:
    stars: Mapping[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        f"{one.name}={one.name}"
        if one.kind is inspect.Parameter.KEYWORD_ONLY
        else f"{stars.get(one.kind, '')}{one.name}"
        for one in _parameters(run)
    )


def _uses(run: Any) -> list[str]:
    """Return what the function uses of its first argument, as far as its source tells."""
    function = inspect.unwrap(run.__func__)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ["?"]
    (own, *_) = inspect.signature(function).parameters
    found = {".".join(path) for node in ast.walk(tree) if (path := _path(node, own))}
    # Of request.retries there is request, too.
    return sorted(one for one in found if not any(other.startswith(f"{one}.") for other in found))


def _path(node: ast.AST, own: str) -> list[str]:
    """Return the attributes of ``own`` that ``node`` reads, such as ``["request", "retries"]``."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if names and isinstance(node, ast.Name) and node.id == own else []
