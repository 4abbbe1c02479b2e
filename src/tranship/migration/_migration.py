"""What becomes of a Celery app, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tranship.errors import ConfigurationError
from tranship.migration._app_notes import app_notes
from tranship.migration._note import Note
from tranship.migration._schedule import ScheduleFacts, schedule_notes, schedules_of
from tranship.migration._skeleton import skeleton_of
from tranship.migration._task_facts import TaskFacts, facts_of
from tranship.migration._task_notes import task_notes

__all__ = ["Migration", "Note", "migrate_celery"]


@dataclass(frozen=True, kw_only=True)
class Migration:
    """What was found in an app."""

    app: str
    """Its name."""
    tasks: Sequence[TaskFacts]
    schedule: Sequence[ScheduleFacts]
    works: Sequence[Note]
    differs: Sequence[Note]
    skeleton: str
    """A module with the tasks, for workers of tranship."""


def migrate_celery(app: Any, *, target: str) -> Migration:
    """Return what becomes of ``app``. The modules that it names as having tasks are imported.

    Args:
        app: a Celery app.
        target: what it is imported by, ``module:object``.

    Raises:
        ConfigurationError: it is none, or its configuration cannot be read.
    """
    celery = sys.modules.get("celery")
    if celery is None or not isinstance(app, celery.Celery):
        raise ConfigurationError(f"{target} is {app!r}; expected a Celery app, as `celery -A` takes it")
    name = str(app.main or target)
    try:
        app.loader.import_default_modules()
        tasks = facts_of(app)
        schedule = schedules_of(app.conf)
        notes = _together([*app_notes(app, tasks), *task_notes(tasks), *schedule_notes(target, schedule)])
    except ConfigurationError:
        raise
    except Exception as error:
        # Modules and settings of the user's own may raise anything.
        raise ConfigurationError(f"{target} cannot be read: {type(error).__name__}: {error}") from error
    return Migration(
        app=name,
        tasks=tasks,
        schedule=schedule,
        works=[note for note in notes if note.works],
        differs=[note for note in notes if not note.works],
        skeleton=skeleton_of(target, tasks, schedule),
    )


def _together(notes: Sequence[Note]) -> list[Note]:
    """Return the notes, with those that say the same as one."""
    about: dict[tuple[bool, str], list[str]] = {}
    for note in notes:
        about.setdefault((note.works, note.text), []).append(note.about)
    return [Note(", ".join(names), works, text) for (works, text), names in about.items()]
