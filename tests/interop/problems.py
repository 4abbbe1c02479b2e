"""What handlers of these tests raise: importable on both sides, so that a Celery client finds the class."""

from __future__ import annotations


class OutOfPaper(Exception):
    """A custom exception with a message."""
