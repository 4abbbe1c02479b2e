"""What handlers of these tests raise: importable on both sides, so that a Celery client finds the class."""

from __future__ import annotations


class OutOfPaper(Exception):
    """A custom exception with a message."""


class Refused(Exception):
    """One with two arguments, which a program that catches it takes apart."""

    def __init__(self, who: str, number: int) -> None:
        super().__init__(who, number)


class Printer:
    """Has an exception of its own."""

    class Jam(Exception):
        """Its module is not all of its name but the last part."""
