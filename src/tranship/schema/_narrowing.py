"""Where one JSON Schema refuses what another one takes. What cannot be compared counts as refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Narrowing", "narrowings"]

Schema = Mapping[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_WORDS: Final = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
"""What says nothing of which values are taken."""
_COMPARED: Final = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "properties", "required", "additionalProperties", "items"}
    | {"prefixItems", "$ref", "$defs", "discriminator", *_LOWER, *_UPPER}
)
_DEEPEST: Final = 40


@dataclass(frozen=True, slots=True)
class Narrowing:
    """One place where the narrower schema refuses what the wider one takes."""

    path: str
    """Of the part, such as ``" item.name"``; empty for the whole."""
    kind: str
    """``"less"``: of the value; ``"unknown"``: a name that is not there; ``"ignored"``: a name that is not there, where
    others are let pass; ``"required"``: a name that has to be there, and need not in the wider one; ``"missing"``: one
    that the wider one does not have."""
    wider: str = ""
    narrower: str = ""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two schemas of one part, and the documents that they refer into."""

    wide: Schema
    narrow: Schema
    wide_root: Schema
    narrow_root: Schema
    path: str

    def of(self, wide: Any, narrow: Any, path: str) -> Iterator[Narrowing]:
        """Compare a part of it."""
        return _compared(_Pair(wide, narrow, self.wide_root, self.narrow_root, path))


def narrowings(wide: Schema, narrow: Schema) -> Iterator[Narrowing]:
    """Yield where ``narrow`` refuses what ``wide`` takes."""
    return _compared(_Pair(wide, narrow, wide, narrow, ""))


def _compared(pair: _Pair) -> Iterator[Narrowing]:
    wide, narrow = _resolved(pair.wide, pair.wide_root), _resolved(pair.narrow, pair.narrow_root)
    if pair.path.count(".") + pair.path.count("[") > _DEEPEST:
        return  # a type that contains itself: it was compared on the way here
    pair = _Pair(wide, narrow, pair.wide_root, pair.narrow_root, pair.path)
    if _branches(wide) or _branches(narrow):
        yield from _of_branches(pair)
        return
    own = list(_own(wide, narrow, pair.path))
    yield from own or _of_parts(pair)


def _resolved(schema: Any, root: Schema) -> Schema:
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        return {"enum": []}  # False: nothing
    found: dict[str, Any] = dict(schema)
    for _ in range(_DEEPEST):
        if "$ref" not in found:
            break
        name = str(found.pop("$ref")).rpartition("/")[2]
        found = {**root.get("$defs", {}).get(name, {}), **found}
    return found


def _branches(schema: Schema) -> list[Any]:
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _of_branches(pair: _Pair) -> Iterator[Narrowing]:
    offered = _branches(pair.narrow) or [pair.narrow]
    shown = " or ".join(_shown(one, pair.narrow_root) for one in offered)
    for one in _branches(pair.wide) or [pair.wide]:
        if all(any(pair.of(one, other, pair.path)) for other in offered):
            yield Narrowing(pair.path, "less", _shown(one, pair.wide_root), shown)


def _own(wide: Schema, narrow: Schema, path: str) -> Iterator[Narrowing]:
    """What the schemas say of the value itself."""
    kinds, values = _kinds(narrow), _values(narrow)
    if kinds and not (_kinds(wide) and _kinds(wide) <= kinds):
        yield Narrowing(path, "less", _said(_kinds(wide)), _said(kinds))
    elif values is not None and not _contains(values, _values(wide)):
        yield Narrowing(path, "less", _listed(_values(wide)), _listed(values))
    for name in (*_LOWER, *_UPPER):
        if name in narrow and not _is_within(name, wide.get(name), narrow[name]):
            yield Narrowing(path, "less", f"{name} {wide.get(name, 'none')}", f"{name} {narrow[name]}")
    for name in sorted(narrow.keys() - _COMPARED - _WORDS):
        if narrow[name] != wide.get(name):
            yield Narrowing(path, "less", f"{name} {wide.get(name, 'none')}", f"{name} {narrow[name]}")


def _is_within(name: str, wide: Any, narrow: Any) -> bool:
    return wide is not None and bool(wide >= narrow if name in _LOWER else wide <= narrow)


def _kinds(schema: Schema) -> frozenset[str]:
    kind = schema.get("type")
    found = {kind} if isinstance(kind, str) else set(kind or ())
    return frozenset(found | {"integer"} if "number" in found else found)


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return None if values is None else list(values)


def _contains(values: list[Any], others: list[Any] | None) -> bool:
    return others is not None and all(one in values for one in others)


def _of_parts(pair: _Pair) -> Iterator[Narrowing]:
    wide, narrow, path = pair.wide, pair.narrow, pair.path
    yield from _of_names(pair)
    if "items" in narrow:
        yield from pair.of(wide.get("items", {}), narrow["items"], f"{path}[]")
    was = wide.get("prefixItems", [])
    for at, one in enumerate(narrow.get("prefixItems", [])):
        yield from pair.of(was[at] if at < len(was) else {}, one, f"{path}[{at}]")


def _of_names(pair: _Pair) -> Iterator[Narrowing]:
    was, now = pair.wide.get("properties", {}), pair.narrow.get("properties", {})
    optional = set(pair.narrow.get("required", ())) - set(pair.wide.get("required", ()))
    more, before = (one.get("additionalProperties", True) for one in (pair.narrow, pair.wide))
    for name, schema in was.items():
        place = f"{pair.path}.{name}" if pair.path else f" {name}"
        if name in now:
            yield from pair.of(schema, now[name], place)
            if name in optional:
                yield Narrowing(place, "required")
        else:
            yield Narrowing(place, "unknown" if more is False else "ignored")
    for name in now.keys() - was.keys():
        if name in optional:
            yield Narrowing(f"{pair.path}.{name}" if pair.path else f" {name}", "missing")
    if more is not True and before is not False and more != before:
        yield from pair.of(before, more, f"{pair.path}[any name]")


def _said(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) or "anything"


def _listed(values: list[Any] | None) -> str:
    return "anything" if values is None else ", ".join(map(repr, values)) or "nothing"


def _shown(schema: Any, root: Schema) -> str:
    schema = _resolved(schema, root)
    if (values := _values(schema)) is not None:
        return _listed(values)
    return str(schema.get("title") or schema.get("format") or _said(_kinds(schema)))
