"""Inputs that somebody could send: valid ones with a few things changed, and values that readers stumble over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgpack

VECTORS = Path(__file__).parents[1] / "golden" / "vectors"
BODIES = [one.read_bytes() for one in sorted(VECTORS.iterdir()) if one.stat().st_size < 4096]
"""What Celery writes: bodies, elements of Redis, result documents, in both serialisations."""

POOL = 3000
"""Values, maps and edits of which inputs are put together."""

NUMBERS = [
    0,
    -1,
    1.5,
    -0.0,
    2**31,
    2**53,
    2**63,
    2**64,
    -(2**63) - 1,
    10**40,
    1e308,
    5e-324,
    float("inf"),
    float("nan"),
]
TEXTS = [
    *("", "x", "\0", "\ud800", "\u202e", "\x1b[2J", "a\nb", "é" * 40, "x" * 1100, "9" * 5000, "1e999999999", "0x10"),
    *("PENDING", "SUCCESS", "REVOKED", "json", "utf-16", "zlib", "application/json", "application/x-msgpack"),
    *("application/x-bz2", "application/x-lzma", "application/x-gzip", "base64", "*", "glob", "pcre", "high"),
    *("2026-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-W01", "24:00"),
    *("datetime", "decimal", "uuid", "bytes", "__type__", "__value__", "tranship", "exc_type", "reply.x.pidbox"),
]
NAMES = [
    *("task", "id", "eta", "expires", "retries", "timelimit", "root_id", "parent_id", "group", "compression", "origin"),
    *(
        "tranship-deadline",
        "tranship-not-before",
        "tranship-cancel-key",
        "tranship-persistent-output",
        "tranship-retry",
    ),
    *("tranship-dedup-key", "tranship-dedup-window", "tranship-result-ttl", "tranship-priority", "tranship-wire"),
    *("status", "result", "traceback", "date_done", "task_id", "children", "hostname", "worker", "details", "error"),
    *("method", "arguments", "destination", "pattern", "matcher", "reply_to", "ticket", "clock", "exchange", "body"),
    *("properties", "headers", "content-type", "content-encoding", "body_encoding", "delivery_tag", "delivery_info"),
    *(
        "__type__",
        "__value__",
        "exc_type",
        "exc_message",
        "exc_module",
        "state",
        "attempt",
        "code",
        "retryable",
        "name",
    ),
    *("args", "kwargs", "callbacks", "chain", "chord", "max_attempts", "backoff", "kind", "value", "running", "stamps"),
]


def _value(random: Random, depth: int) -> Any:
    kind = random.randrange(12 if depth else 7)
    if kind < 2:
        return random.choice([None, True, False, random.choice(NUMBERS), random.randrange(-300, 300), random.random()])
    if kind < 4:
        return random.choice(TEXTS)
    if kind == 4:
        return "".join(chr(random.choice([random.randrange(128), random.randrange(0x11_0000)])) for _ in range(4))
    if kind == 5:
        return random.randbytes(random.randrange(8))
    if kind == 6:
        return _deep(random.choice([3, 60, 400, 900]), random.choice(["", 1])) if random.random() < 0.1 else ""
    if kind == 7:
        return {"__type__": random.choice(TEXTS), "__value__": _value(random, depth - 1)}
    if kind < 10:
        return [_value(random, depth - 1) for _ in range(random.randrange(4))]
    return _map(random, depth - 1)


def _map(random: Random, depth: int) -> dict[str, Any]:
    return {
        random.choice(NAMES if random.random() < 0.9 else TEXTS): _value(random, depth)
        for _ in range(random.randrange(8))
    }


def _deep(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def as_json(value: Any) -> bytes:
    """``value`` as JSON that may be no JSON at all: bytes become a text, deep nesting and NaN are written."""
    try:
        return json.dumps(value, default=lambda odd: odd.decode("latin-1")).encode()
    except (RecursionError, TypeError, ValueError):
        return b"[" * 1500


def as_msgpack(value: Any) -> bytes:
    """``value`` as msgpack, or bytes that begin like it."""
    try:
        return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))
    except (ValueError, OverflowError, RecursionError):
        return b"\x93\x90\x80"


def changed(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """``whole`` with slices replaced: at a place, so many bytes, by others."""
    for at, size, other in edits:
        place = at % (len(whole) + 1)
        whole = whole[:place] + other + whole[place + size :]
    return whole


PIECES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\ud800", b"\\u0000", b"NaN", b"\r\n", b"%", b"@"),
    *(b"\xff", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc9\x00\x00\x00\x02\xff", b"\xd6\xff\xff\xff\xff\xff"),
    *(b"9" * 400, b"[" * 1100),
]


def _edits(random: Random) -> list[tuple[int, int, bytes]]:
    count = random.choice([0, 1, 1, 2, 5])
    return [
        (random.randrange(4096), random.randrange(9), random.choice([*PIECES, random.randbytes(random.randrange(6))]))
        for _ in range(count)
    ]


Make = Callable[[Random], Any]
"""Makes an input: the same one for the same state of the generator."""

_RANDOM = Random(int(os.environ.get("TRANSHIP_TEST_FUZZ_SEED", "0")))
VALUES = [_value(_RANDOM, 3) for _ in range(POOL)]
MAPS = [_map(_RANDOM, 3) for _ in range(POOL)]
EDITS = [_edits(_RANDOM) for _ in range(POOL)]
JSON_DOCUMENTS = [as_json(one) for one in (*VALUES, *MAPS)]
DOCUMENTS = [*JSON_DOCUMENTS, *map(as_msgpack, (*VALUES, *MAPS))]


def among(choices: Sequence[Any]) -> Make:
    """One of ``choices``."""
    return lambda random: random.choice(choices)


def either(*makes: Make) -> Make:
    """What one of ``makes`` makes."""
    return lambda random: random.choice(makes)(random)


def tuples(*makes: Make) -> Make:
    """What all of ``makes`` make."""
    return lambda random: tuple(make(random) for make in makes)


def dicts(names: Sequence[Any], value: Make, most: int = 4) -> Make:
    """A few names with a value each."""
    return lambda random: {random.choice(names): value(random) for _ in range(random.randrange(most + 1))}


values, maps = among(VALUES), among(MAPS)


def noise(random: Random) -> bytes:
    """A few bytes."""
    return random.randbytes(random.randrange(40))


def mutants(seeds: Sequence[bytes]) -> Make:
    """One of ``seeds`` with a few edits."""
    return lambda random: changed(random.choice(seeds), random.choice(EDITS))


def documents(*, json_only: bool = False) -> Make:
    """Bytes of a message's parts: hostile values and what Celery wrote, with a few edits."""
    return mutants([*(JSON_DOCUMENTS if json_only else DOCUMENTS), *20 * BODIES])
