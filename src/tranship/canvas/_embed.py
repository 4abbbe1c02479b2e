"""What a received message asks for after its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tranship.errors import MalformedMessage
from tranship.protocol import Signature, decode_signature, signatures_in

__all__ = ["Embed"]


@dataclass(slots=True)
class Embed:
    """The third part of a message's body, as far as it can be read."""

    callbacks: list[Signature] = field(default_factory=list)
    errbacks: list[Signature] = field(default_factory=list)
    next: Signature | None = None
    """The step that follows."""
    later: Sequence[Mapping[str, Any]] = ()
    """The steps after that, in reverse order; each is read when its turn comes."""
    chord: Mapping[str, Any] | None = None
    """The body of the chord that the task counts for; read when that is complete."""
    problem: MalformedMessage | None = None
    """What could not be read; None: nothing."""

    @classmethod
    def read(cls, parts: Mapping[str, Any]) -> Embed:
        """Return what ``parts`` say; the first thing that cannot be read is the problem, and the rest is there."""
        found = cls()
        for read in (_read_callbacks, _read_errbacks, _read_chain, _read_chord):
            try:
                read(found, parts)
            except MalformedMessage as error:
                found.problem = found.problem or error
        return found


def _read_callbacks(found: Embed, parts: Mapping[str, Any]) -> None:
    found.callbacks = _all(parts, "callbacks")


def _read_errbacks(found: Embed, parts: Mapping[str, Any]) -> None:
    found.errbacks = _all(parts, "errbacks")


def _read_chain(found: Embed, parts: Mapping[str, Any]) -> None:
    chain = signatures_in(parts.get("chain"), "chain")
    if chain:
        found.later = chain[:-1]
        found.next = decode_signature(chain[-1], f"chain[{len(chain) - 1}]")


def _read_chord(found: Embed, parts: Mapping[str, Any]) -> None:
    chord = parts.get("chord")
    if chord is not None:
        # Kept as it came: the body may be large, and each member of the header has a copy.
        if not isinstance(chord, Mapping):
            decode_signature(chord, "chord")
        found.chord = chord


def _all(parts: Mapping[str, Any], name: str) -> list[Signature]:
    return [decode_signature(one, f"{name}[{at}]") for at, one in enumerate(signatures_in(parts.get(name), name))]
