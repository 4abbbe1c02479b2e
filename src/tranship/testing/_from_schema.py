"""Hypothesis strategies from JSON Schemas, as far as pydantic writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, timedelta
from typing import Any, Final

from hypothesis import strategies as st

__all__ = ["CHARACTERS", "SCALARS", "WHOLE", "from_schema", "matching"]

Schema = Mapping[str, Any]
Made = st.SearchStrategy[Any]

_LEAST, _MOST = -(2**63), 2**63 - 1
"""What every encoding takes: JSON of other languages has numbers of 64 bits."""
_SEVERAL: Final = 5
"""How many members a list has at most, and how many keys more than it must an object, where nothing else is said."""
CHARACTERS: Final = st.characters(exclude_categories=["Cs"])
"""What UTF-8 can say: all but surrogates.

The alphabet that hypothesis takes by itself has the same characters, and finds them by encoding a million: seconds on a
busy machine, in the first test of a directory that draws a text.
"""
WHOLE: Final = st.integers(_LEAST, _MOST)
SCALARS: Final = st.none() | st.booleans() | WHOLE | st.text(CHARACTERS)
_HOURS: Final = timedelta(days=9999)

_FORMATS: Final[Mapping[str, Callable[[], Made]]] = {
    "date-time": lambda: st.datetimes(timezones=st.just(UTC)).map(lambda one: one.isoformat()),
    "date": lambda: st.dates().map(lambda one: one.isoformat()),
    "time": lambda: st.times().map(lambda one: one.isoformat()),
    "duration": lambda: st.timedeltas(-_HOURS, _HOURS),
    "uuid": lambda: st.uuids().map(str),
    "email": lambda: matching(r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)"),
    "uri": lambda: matching(r"https://[a-z]{1,8}\.(com|org)/[a-z]{0,8}"),
    "ipv4": lambda: st.ip_addresses(v=4).map(str),
    "ipv6": lambda: st.ip_addresses(v=6).map(str),
    "path": lambda: matching(r"/?([a-z]{1,8}/){0,3}[a-z]{1,8}"),
}


def from_schema(schema: Schema) -> Made:
    """Return a strategy of what ``schema`` describes; of what it cannot say, or says in a way that is not known here,
    whoever reads it has to refuse what does not fit.
    """
    return _Maker(schema.get("$defs", {})).made(schema)


class _Maker:
    """Makes strategies of the parts of one schema. Mutable state: those of its definitions."""

    def __init__(self, definitions: Schema) -> None:
        self._definitions = definitions
        self._made: dict[str, Made] = {}

    def made(self, schema: Schema | bool) -> Made:
        if isinstance(schema, bool):
            return SCALARS if schema else st.nothing()
        if "$ref" in schema:
            return self._of_definition(schema["$ref"].rpartition("/")[2])
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return st.one_of([self.made(one) for one in schema[several]])
        return self._of_kind(schema)

    def _of_definition(self, name: str) -> Made:
        if name not in self._made:
            self._made[name] = st.deferred(lambda: self.made(self._definitions[name]))
        return self._made[name]

    def _of_kind(self, schema: Schema) -> Made:
        kinds: Mapping[str, Callable[[Schema], Made]] = {
            "null": lambda _: st.none(),
            "boolean": lambda _: st.booleans(),
            "integer": _integers,
            "number": _numbers,
            "string": _texts,
            "array": self._lists,
            "object": self._objects,
        }
        make = kinds.get(schema.get("type", ""))
        return SCALARS if make is None else make(schema)

    def _lists(self, schema: Schema) -> Made:
        first = [self.made(one) for one in schema.get("prefixItems", ())]
        least = max(0, schema.get("minItems", 0) - len(first))
        most = schema.get("maxItems")
        if first and (most == len(first) or "items" not in schema):
            return st.tuples(*first).map(list)
        several = st.lists(
            self.made(schema.get("items", True)),
            min_size=least,
            max_size=least + _SEVERAL if most is None else min(most - len(first), least + _SEVERAL),
            unique_by=repr if schema.get("uniqueItems") else None,
        )
        return st.tuples(st.tuples(*first).map(list), several).map(lambda found: found[0] + found[1])

    def _objects(self, schema: Schema) -> Made:
        named = {name: self.made(one) for name, one in schema.get("properties", {}).items()}
        needed = set(schema.get("required", ()))
        fixed = st.fixed_dictionaries(
            {name: one for name, one in named.items() if name in needed},
            optional={name: one for name, one in named.items() if name not in needed},
        )
        others = schema.get("additionalProperties", False)
        if others is False:
            return fixed
        keys = _texts(schema.get("propertyNames", {})).filter(lambda key: key not in named)
        least = schema.get("minProperties", 0)
        most = min(schema.get("maxProperties", least + _SEVERAL), least + _SEVERAL)
        more = st.dictionaries(keys, self.made(others), min_size=least, max_size=most)
        return st.tuples(more, fixed).map(lambda found: found[0] | found[1])


def _integers(schema: Schema) -> Made:
    least, most = schema.get("minimum", _LEAST), schema.get("maximum", _MOST)
    least = max(least, schema.get("exclusiveMinimum", least - 1) + 1)
    most = min(most, schema.get("exclusiveMaximum", most + 1) - 1)
    step = schema.get("multipleOf")
    if step:
        return st.integers(-(-least // step), most // step).map(lambda one: one * step)
    return st.integers(least, most)


def _numbers(schema: Schema) -> Made:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _texts(schema: Schema) -> Made:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], alphabet=CHARACTERS).filter(
            lambda one: least <= len(one) and (most is None or len(one) <= most)
        )
    make = _FORMATS.get(schema.get("format", ""))
    return st.text(CHARACTERS, min_size=least, max_size=most) if make is None else make()


def matching(pattern: str) -> Made:
    """Return a strategy of texts that ``pattern`` matches from end to end."""
    return st.from_regex(pattern, fullmatch=True, alphabet=CHARACTERS)
