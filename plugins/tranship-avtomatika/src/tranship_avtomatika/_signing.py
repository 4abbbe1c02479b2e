"""Signatures: HMAC-SHA256 over JSON in one form, as workers and orchestrators make them of what they say."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import orjson

from tranship.errors import EncodeError

__all__ = ["is_signed", "signed"]

DEEPEST: Final = 30
"""Levels of lists and objects that an orchestrator reads."""
_UNSIGNED: Final = frozenset({"security", "sig", "orchestrator_signature", "skill_version", "skill_type"})
"""What an orchestrator adds to a task that it has signed."""


def signed(payload: Mapping[str, Any], *, worker: str, secret: str | None) -> bytes:
    """Return what a worker says, as JSON, with its signature.

    It is said now, and once: what an orchestrator has heard before it takes for an attack.

    Raises:
        EncodeError: it holds something that cannot be said.
    """
    said = _plain({**payload, "timestamp": int(time.time()), "nonce": uuid4().hex})
    if secret:
        said["security"] = {"signature": _signature(said, secret), "signer_id": worker}
    return orjson.dumps(said)


def is_signed(task: Mapping[str, Any], secret: str) -> bool:
    """Whether an orchestrator with this secret has made ``task``."""
    found = task.get("sig") or task.get("orchestrator_signature")
    if not isinstance(found, str):
        return False
    try:
        said = _plain({name: value for name, value in task.items() if name not in _UNSIGNED})
        return hmac.compare_digest(_signature(said, secret).encode(), found.encode())
    except (EncodeError, UnicodeEncodeError):
        return False


def _signature(said: Mapping[str, Any], secret: str) -> str:
    return hmac.new(secret.encode(), orjson.dumps(said, option=orjson.OPT_SORT_KEYS), hashlib.sha256).hexdigest()


def _plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return it as JSON brings it, without nulls, and with whole numbers as such: in the form that is signed."""
    try:
        read: Any = orjson.loads(orjson.dumps(payload, default=str, option=orjson.OPT_NON_STR_KEYS))
        found: dict[str, Any] = _whole(read, 0)
        orjson.dumps(found)
    except (TypeError, OverflowError, RecursionError) as error:
        raise EncodeError(f"an orchestrator cannot be told this: {error}") from error
    return found


def _whole(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise EncodeError(f"an orchestrator cannot be told this: it is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {name: _whole(one, depth + 1) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_whole(one, depth + 1) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
