"""What a worker's owner and its handlers say of it: labels, skills, what is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tranship import codec
from tranship.checks import invalid, mapping, name_text
from tranship.errors import EncodeError, InvalidOptionError
from tranship.task import HotCache

__all__ = ["Profile"]

LABELS_SIZE: Final = 4096
SKILLS_SIZE: Final = 8192
"""Bytes as JSON: they are in every heartbeat."""


class Profile:
    """Of one worker, at work or not.

    Args:
        labels: what its owner says of it.
        skill_dependencies: what each of its skills needs loaded.

    Attributes:
        hot_cache: what is loaded.
        labels: what its owner says; never changed in place.

    Raises:
        InvalidOptionError: a value that cannot be told.
    """

    def __init__(
        self,
        labels: Mapping[str, Any] | None = None,
        skill_dependencies: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.labels = _labels(labels or {})
        self.skill_dependencies = _skills(skill_dependencies or {})
        self.hot_cache = HotCache()
        self._changed: Callable[[], None] = self.hot_cache.on_change

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each change, on whatever thread, in place of the one before."""
        self._changed = self.hot_cache.on_change = listener

    def set_labels(self, changes: Mapping[str, Any]) -> None:
        """Set labels; None removes one.

        Raises:
            InvalidOptionError: a value that cannot be written; nothing was changed.
        """
        labels = {**self.labels, **mapping("labels", changes)}
        checked = _labels({name: value for name, value in labels.items() if value is not None})
        if checked != self.labels:
            self.labels = checked
            self._changed()


def _labels(given: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in mapping("labels", given).items():
        name_text("the name of a label", name)
        try:
            codec.dumps(value, name=f"label {name!r}")
        except EncodeError as error:
            raise InvalidOptionError(f"{error}; labels are told as JSON", option="labels") from None
    return _bounded("labels", dict(given), LABELS_SIZE)


def _skills(given: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    for skill, needs in mapping("skill_dependencies", given).items():
        name_text("the name of a skill", skill)
        if isinstance(needs, str) or not isinstance(needs, Sequence):
            raise invalid(f"skill_dependencies[{skill!r}]", needs, "a list of names")
        for one in needs:
            name_text(f"a name in skill_dependencies[{skill!r}]", one)
    return _bounded("skill_dependencies", {skill: list(needs) for skill, needs in given.items()}, SKILLS_SIZE)


def _bounded(option: str, value: dict[str, Any], most: int) -> Mapping[str, Any]:
    # What was written is what is read: a copy that nobody changes behind our back.
    text = codec.dumps(value, name=option)
    if len(text) > most:
        raise InvalidOptionError(
            f"{option} are {len(text)} bytes as JSON, {most} are the limit: they are in every heartbeat", option=option
        )
    copy: Mapping[str, Any] = codec.loads(text, codec.JSON)
    return copy
