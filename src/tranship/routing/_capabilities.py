"""What several brokers can do together: what each of them can, in its weakest form. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tranship import codec
from tranship.ports import Capabilities, Capability, CountKind, Level, Support

__all__ = ["together", "unfit"]

Properties = Mapping[str, Any]


def together(all_of: Sequence[Capabilities], *, in_turn: bool, strict: bool) -> Capabilities:
    """Return the capabilities of brokers that are used as one.

    Args:
        all_of: theirs.
        in_turn: whether tasks are spread over them.
        strict: whether deliveries are merged strictly by level.
    """
    supports = {capability: _weakest(capability, [one[capability] for one in all_of]) for capability in Capability}
    if len(all_of) > 1:
        supports.update(_by_routing(supports, in_turn=in_turn, strict=strict))
    if not _answer_alike(all_of):
        supports[Capability.RESULT_PUSH] = Support(Level.NONE)
    # Which of several brokers would have the lock?
    supports[Capability.RECORDS] = Support(Level.NONE)
    return Capabilities(supports)


def _answer_alike(all_of: Sequence[Capabilities]) -> bool:
    """Whether results come in one way: where some brokers keep them and others only push them, half would be missed."""
    return len({one.has(Capability.RESULTS) for one in all_of}) == 1


def unfit(member: Capabilities, declared: Capabilities) -> Sequence[Capability]:
    """Return what ``member`` lacks although the router has declared it, and somebody may rely on it."""
    return [one for one in declared if one not in _SOFT and declared.has(one) and not member.has(one)]


def _weakest(capability: Capability, supports: Sequence[Support]) -> Support:
    levels = {one.level for one in supports}
    level = next((one for one in (Level.NONE, Level.EMULATED) if one in levels), Level.NATIVE)
    if level is Level.NONE:
        return Support(level)
    return Support(level, _properties(capability, [one.properties for one in supports]))


def _properties(capability: Capability, given: Sequence[Properties]) -> Properties:
    """Those that all agree on; where one has to be named, the weaker."""
    first, *others = given
    same = {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
    weaker = _WEAKER.get(capability)
    return same if weaker is None else {**same, **weaker(given)}


def _by_routing(supports: Mapping[Capability, Support], *, in_turn: bool, strict: bool) -> dict[Capability, Support]:
    """What being several takes away."""
    changed: dict[Capability, Support] = {}
    if supports[Capability.ORDERED].level is not Level.NONE:
        properties = {**supports[Capability.ORDERED].properties, "until": "another broker is used"}
        changed[Capability.ORDERED] = Support(Level.NONE) if in_turn else Support(Level.EMULATED, properties)
    if supports[Capability.PRIORITY].level is not Level.NONE:
        level = supports[Capability.PRIORITY].level
        properties = {**supports[Capability.PRIORITY].properties, "strict": "overall" if strict else "per-broker"}
        changed[Capability.PRIORITY] = Support(level, properties)
    if in_turn and supports[Capability.RETRY_SAFE].level is not Level.NONE:
        # An id that was not checked the first time may be at any broker.
        changed[Capability.RETRY_SAFE] = Support(supports[Capability.RETRY_SAFE].level, {"among": "checked"})
    return changed


def _delay(given: Sequence[Properties]) -> Properties:
    return {"resolution": max(one.get("resolution", 1.0) for one in given)}


def _kind(given: Sequence[Properties]) -> Properties:
    exact = all(one.get("kind") == CountKind.EXACT for one in given)
    return {"kind": CountKind.EXACT if exact else CountKind.AT_LEAST}


def _among(given: Sequence[Properties]) -> Properties:
    return {"among": "checked"} if any(one.get("among") == "checked" for one in given) else {}


def _window(given: Sequence[Properties]) -> Properties:
    return {"window": "per-task" if all(one.get("window") == "per-task" for one in given) else "fixed"}


def _ttl(given: Sequence[Properties]) -> Properties:
    return {"ttl": "per-result" if all(one.get("ttl") == "per-result" for one in given) else "per-store"}


def _content_type(given: Sequence[Properties]) -> Properties:
    types = {one.get("content_type", codec.JSON) for one in given}
    return {"content_type": types.pop() if len(types) == 1 else codec.JSON}


def _told(given: Sequence[Properties]) -> Properties:
    return {"told": True} if any(one.get("told") for one in given) else {}


def _push(_given: Sequence[Properties]) -> Properties:
    """Before a submit nobody knows where it will go."""
    return {"with_submit": False}


_WEAKER: Final[Mapping[Capability, Callable[[Sequence[Properties]], Properties]]] = {
    Capability.DELAY: _delay,
    Capability.DELIVERY_COUNT: _kind,
    Capability.RETRY_SAFE: _among,
    Capability.KEY_WINDOW: _window,
    Capability.RESULTS: _content_type,
    Capability.RESULT_PUSH: _push,
    Capability.RESULT_TTL: _ttl,
    Capability.KNOWS_IDS: _told,
}

_SOFT: Final = frozenset(
    {
        Capability.DURABLE,
        Capability.AGING,
        Capability.ORDERED,
        Capability.KNOWS_IDS,
        Capability.UNIQUE_NAMES,
        Capability.RETRY_SAFE,
        Capability.INSPECT_DEPTH,
        Capability.INSPECT_IN_FLIGHT,
        Capability.INSPECT_OLDEST,
        Capability.BROWSE,
    }
)
"""A broker that comes late and turns out to lack one of these is used all the same, with a warning."""
