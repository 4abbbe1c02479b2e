"""Which queue a task goes to that is defined elsewhere: names, or patterns of names, and their queues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

from tranship.checks import name_text
from tranship.errors import InvalidOptionError

__all__ = ["TaskRoutes"]


@dataclass(frozen=True)
class TaskRoutes:
    """Made by :meth:`parse`; a name goes before patterns, and the first pattern that fits before the others."""

    expected: ClassVar[str] = (
        'names or patterns with their queues, such as shop.resize=media, shop.*=celery, or {"shop.*": "celery"}'
    )

    queues: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the routes in ``text``: ``name=queue``, separated by commas, or a JSON object.

        Raises:
            InvalidOptionError: it is neither, or a queue cannot have that name.
        """
        return cls(tuple(_checked(_pairs(text))))

    def queue_of(self, task: str) -> str | None:
        """Return where the task of that name goes; None: nothing is said of it."""
        by_name = next((queue for name, queue in self.queues if name == task), None)
        return by_name or next((queue for name, queue in self.queues if fnmatchcase(task, name)), None)

    def __bool__(self) -> bool:
        return bool(self.queues)

    def __str__(self) -> str:
        return ", ".join(f"{name}={queue}" for name, queue in self.queues)


def _pairs(text: str) -> Iterator[tuple[Any, Any]]:
    if text.lstrip().startswith(("{", "[")):
        yield from _read(text).items()
        return
    for part in text.split(","):
        if part.strip():
            name, sign, queue = part.partition("=")
            if not sign:
                raise _wrong(part.strip())
            yield name.strip(), queue.strip()


def _read(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _wrong(text) from None
    if not isinstance(found, dict):
        raise _wrong(text)
    return found


def _checked(pairs: Iterator[tuple[Any, Any]]) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        # As Celery has it: {"queue": "celery"}.
        queue = value.get("queue") if isinstance(value, dict) and set(value) == {"queue"} else value
        if not name or not isinstance(queue, str) or not queue:
            raise _wrong(f"{name}={value}")
        yield name, name_text("task_routes", queue)


def _wrong(what: str) -> InvalidOptionError:
    return InvalidOptionError(f"task_routes is {what!r}; expected {TaskRoutes.expected}", option="task_routes")
