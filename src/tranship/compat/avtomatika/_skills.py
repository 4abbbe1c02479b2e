"""Skills: functions with what is said of them, collected by a worker or a blueprint."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypeVar

from tranship.checks import name_text
from tranship.compat.avtomatika._handler import Handler
from tranship.errors import ConfigurationError, UnsupportedError

__all__ = ["Skill", "SkillBlueprint", "SkillInfo", "skill_of"]

F = TypeVar("F", bound=Callable[..., Any])

_SCHEMAS: Final = ("input_schema", "output_schema", "events_schema")


@dataclass(frozen=True)
class SkillInfo:
    """What is said of a skill. Schemas are not checked here, and refused: annotate ``params`` instead."""

    name: str
    type: str | None = None
    description: str | None = None
    version: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    events_schema: dict[str, dict[str, Any]] | None = None
    output_statuses: list[str] | None = None
    schema_dialect: str = "json-schema"
    properties: dict[str, Any] | None = None


@dataclass(frozen=True)
class Skill:
    """A skill that can be run."""

    info: SkillInfo
    handler: Handler


class SkillBlueprint:
    """Collects skills for workers to include.

    Args:
        skill_info_class: what is made of what is said of a skill.
    """

    def __init__(self, skill_info_class: type[SkillInfo] = SkillInfo) -> None:
        self._class = skill_info_class
        self.skills: list[Skill] = []

    def skill(self, info: str | SkillInfo | type[SkillInfo] | None = None, **kwargs: Any) -> Callable[[F], F]:
        """Decorate a handler; it stays callable as before. See :meth:`Worker.skill`."""

        def decorate(function: F) -> F:
            self.skills.append(skill_of(function, info, kwargs, self._class))
            return function

        return decorate


def skill_of(function: Any, info: Any, said: dict[str, Any], kind: type[SkillInfo]) -> Skill:
    """Return the skill of a function.

    Args:
        function: the handler.
        info: its name, or all that is said of it, or a class for that; None: the function's name.
        said: more of it; what ``kind`` has no field for becomes its ``properties``.
        kind: what is made of it.

    Raises:
        ConfigurationError: no such function, or nothing of the kind.
        InvalidOptionError: a name that cannot be used.
        UnsupportedError: a schema.
    """
    if isinstance(info, type):
        kind, info = info, None
    if not (info is None or isinstance(info, str | SkillInfo)) or not issubclass(kind, SkillInfo):
        raise ConfigurationError(f"{info!r} says nothing of a skill; expected its name or a SkillInfo")
    if isinstance(info, SkillInfo):
        kind, given = type(info), asdict(info)
    else:
        given = {} if info is None else {"name": info}
    given.update(said)
    name = given["name"] = name_text("the name of a skill", given.get("name") or getattr(function, "__name__", ""))
    given["type"] = given.get("type") or name
    given["description"] = given.get("description") or inspect.getdoc(function)
    _refuse_schemas(name, given)
    known = {one.name for one in fields(kind)}
    more = {key: given.pop(key) for key in list(given) if key not in known}
    if more:
        given["properties"] = {**(given.get("properties") or {}), **more}
    return Skill(kind(**given), Handler(function, name))


def _refuse_schemas(name: str, given: dict[str, Any]) -> None:
    for schema in _SCHEMAS:
        if given.get(schema) is not None:
            raise UnsupportedError(
                f"skill {name!r} has {schema}, which nothing here would check; annotate params with a pydantic model "
                "or a dataclass instead"
            )
