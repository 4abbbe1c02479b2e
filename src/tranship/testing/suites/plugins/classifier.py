"""What a classifier of exceptions promises."""

from __future__ import annotations

from collections.abc import Sequence

from tranship.errors import TranshipError
from tranship.registry import Classifier

__all__ = ["ClassifierSuite"]


class _Hostile(Exception):
    """One that nobody can print."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class ClassifierSuite:
    """Fixtures: ``classifier``, and ``known``, exceptions that it knows."""

    def test_it_knows_its_own(self, classifier: Classifier, known: Sequence[Exception]) -> None:
        """Each means something that tranship knows, with a text."""
        assert known, "the fixture `known` gives no exception"
        for error in known:
            meant = classifier(error)
            assert isinstance(meant, TranshipError), f"{error!r} means {meant!r}; expected a TaskError, Retry or Reject"
            assert str(meant), f"what {error!r} means has no text"

    def test_it_leaves_others_alone(self, classifier: Classifier) -> None:
        """What is none of its own is None, whatever it looks like."""
        for error in (ValueError("x"), KeyError(), OSError(5, "io"), ExceptionGroup("g", [ValueError()]), _Hostile()):
            assert classifier(error) is None, f"{type(error).__name__} was taken for one of its own"
