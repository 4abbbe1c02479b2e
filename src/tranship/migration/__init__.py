"""From a Celery app to tranship: what works as it is, what differs, and a skeleton of its tasks.

The app is read, not run. Celery is never imported from here: who has an app has it.
"""

from tranship.migration._migration import Migration, Note, migrate_celery

__all__ = ["Migration", "Note", "migrate_celery"]
