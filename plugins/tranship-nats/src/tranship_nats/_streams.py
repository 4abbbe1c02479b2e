"""The streams: what each is, made where it is missing, never changed where it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import orjson

from tranship.errors import BrokerRefused, TranshipError
from tranship_nats._connection import Answer
from tranship_nats._errors import (
    STREAM_EXISTS,
    STREAM_MISSING,
    SUBJECTS_OVERLAP,
    ApiError,
    api_error,
    gone,
    no_responders,
    passing,
)
from tranship_nats._jetstream import JetStream, checked, moment, nanos
from tranship_nats._naming import Names
from tranship_nats._options import NatsOptions

__all__ = ["Streams"]

log = logging.getLogger("tranship.nats")

BEAT_MEMORY: Final = 60.0
"""Seconds after which a worker without a heartbeat is forgotten."""
FLEETING: Final = ("workers", "names")
"""Kinds of what is said again soon: it is kept in memory, and gone with the server."""
RESTING: Final = 1.0
"""Seconds between a stream's deletion and its making. nats-server 2.9 forgets a stream's name first and removes its
files later: of a stream that is made in between it removes the new ones, and never delivers what is in it."""
GLANCE: Final = 1.0
"""Seconds for which a stream is believed to be the one that it was. No more than the above: then none is missed."""


@dataclass(frozen=True, slots=True)
class _Definition:
    """One stream as we make it."""

    name: str
    subjects: list[str]
    retention: str
    max_age: float = 0.0
    window: float = 0.0
    rest: Mapping[str, Any] = field(default_factory=dict)


class Streams:
    """Makes the streams of a namespace when they are needed first, and again when they have been deleted.

    Args:
        js: over the connection that they are used on.
        names: of the namespace.
        options: of the URL.
        known: streams that have been there, over any connection.

    Attributes:
        found: what each stream really is, by kind.
    """

    def __init__(self, js: JetStream, names: Names, options: NatsOptions, known: set[str]) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._js, self._options, self._known = js, options, known
        self._definitions = _definitions(names, options)
        self._making: dict[str, asyncio.Task[None]] = {}
        self._seen: set[str] = set()
        self._born: dict[str, float] = {}
        """When each was made, by the server's clock."""
        self._glanced: dict[str, float] = {}
        js.connection.on_close.append(self._close)

    def name(self, kind: str) -> str:
        """The stream's name."""
        return self._definitions[kind].name

    def age(self, kind: str) -> float:
        """How long the stream keeps what is in it, as far as it is known here; inf: for ever."""
        nano = self.found[kind].get("max_age", 0) if kind in self.found else 0
        return nano / 1e9 if nano else inf

    async def need(self, kind: str) -> str:
        """Return the name of a stream that is there: ``work``, ``delay``, or a bucket.

        Raises:
            BrokerUnreachable, StorageFull, UnsupportedError.
            BrokerRefused: something else has its name, or we may not make it.
        """
        if kind not in self.found:
            try:
                await asyncio.shield(self._begin(kind))
            except TranshipError as error:
                raise (passing(error) if kind in self._known else error) from error
        return self._definitions[kind].name

    async def look(self, kind: str) -> bool:
        """Whether a stream is there; it is not made.

        Raises:
            BrokerUnreachable, UnsupportedError.
            BrokerRefused: something else has its name, or we may not look.
        """
        info = await self._js.find(f"STREAM.INFO.{self.name(kind)}", STREAM_MISSING)
        if info is not None:
            self._keep(kind, info)
        return info is not None

    async def born(self, kind: str) -> float:
        """Return when a stream was made, by the server's clock, as of a second ago at most; 0: unknown.

        What is older came from another stream of that name, which was deleted. Its numbers mean other messages now.
        """
        now = asyncio.get_running_loop().time()
        if now - self._glanced.get(kind, -GLANCE) >= GLANCE:
            self._glanced[kind] = now
            try:
                if not await self.look(kind):
                    self.found.pop(kind, None)
            except TranshipError as error:
                log.debug("whether stream %s is still the same is not known: %s", self.name(kind), error)
        return self._born.get(kind, 0.0)

    def doubt(self, kind: str) -> None:
        """Nobody answers for a stream: look whether it is still there, now and before it is used next."""
        self.found.pop(kind, None)
        self._begin(kind)

    def stored(self, kind: str, answer: Answer, refusal: int = 0) -> int | None:
        """Return the sequence of what was published; None: it was refused with the number ``refusal``.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        if not isinstance(answer, TranshipError) and no_responders(answer[0]):
            self.doubt(kind)
            raise gone(self._js.connection.place, self.name(kind))
        data = checked(answer, f"{self._js.connection.place}: publishing to {self.name(kind)}", (refusal,))
        return int(orjson.loads(data)["seq"]) if data else None

    @property
    def warnings(self) -> list[str]:
        """Where what is there is not what the URL asks for, or loses work."""
        return [
            warning
            for kind, config in self.found.items()
            for warning in _differences(self._definitions[kind], config, self._options)
        ]

    def _begin(self, kind: str) -> asyncio.Task[None]:
        task = self._making.get(kind)
        if task is None:
            task = self._making[kind] = asyncio.get_running_loop().create_task(self._make(kind))
            task.add_done_callback(lambda done: self._made(kind, done))
        return task

    def _made(self, kind: str, task: asyncio.Task[None]) -> None:
        self._making.pop(kind, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("stream %s: %s", self.name(kind), error)

    def _close(self) -> None:
        for task in self._making.values():
            task.cancel()

    async def _make(self, kind: str) -> None:
        if await self.look(kind):
            return
        definition = self._definitions[kind]
        if kind in self._known and kind not in FLEETING:
            log.warning("stream %s was deleted with everything in it; it is made again", definition.name)
        if kind in self._seen:
            await asyncio.sleep(RESTING)
        self._keep(kind, await self._create(definition))

    def _keep(self, kind: str, info: Mapping[str, Any]) -> None:
        self._check(self._definitions[kind], info["config"])
        self._seen.add(kind)
        self._known.add(kind)
        self._born[kind] = moment(info.get("created")) or 0.0
        self.found[kind] = info["config"]

    async def _create(self, definition: _Definition) -> dict[str, Any]:
        try:
            return await self._js.create(f"STREAM.CREATE.{definition.name}", _config(definition, self._options))
        except ApiError as error:
            # Somebody else may have been faster. That the subjects overlap is said by nats-server 2.9 of the very
            # stream, too, where it is asked for twice at one moment.
            if error.number in (STREAM_EXISTS, SUBJECTS_OVERLAP):
                info = await self._js.find(f"STREAM.INFO.{definition.name}", STREAM_MISSING)
                if info is not None:
                    return info
            raise api_error(error, f"making stream {definition.name}") from error

    def _check(self, definition: _Definition, config: Mapping[str, Any]) -> None:
        for name, wanted in (("subjects", definition.subjects), ("retention", definition.retention)):
            if config.get(name) != wanted:
                raise BrokerRefused(
                    f"stream {definition.name} is not ours: its {name} is {config.get(name)!r}, not {wanted!r}; "
                    "choose another namespace in the URL"
                )


def _definitions(names: Names, options: NatsOptions) -> dict[str, _Definition]:
    window = options.duplicate_window
    found = {
        "work": _Definition(names.work, [f"{names.root}.t.>"], "workqueue", window=window),
        "delay": _Definition(names.delay, [f"{names.root}.d.>"], "workqueue", window=window),
    }
    ages = {
        "results": options.result_ttl,
        "ids": options.result_ttl,
        "keys": options.dedup_window,
        "workers": BEAT_MEMORY,
        "names": BEAT_MEMORY,
        "cancels": 0.0,
        "dead": 0.0,
        "rows": 0.0,
    }
    bucket = {
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "discard": "new",
        "allow_direct": True,
    }
    for kind, age in ages.items():
        rest = {**bucket, "storage": "memory"} if kind in FLEETING else bucket
        subjects = [names.key(kind, ">")]
        found[kind] = _Definition(names.bucket(kind), subjects, "limits", age, min(120.0, age), rest)
    return found


def _config(definition: _Definition, options: NatsOptions) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": definition.name,
        "subjects": definition.subjects,
        "retention": definition.retention,
        "storage": options.storage,
        "num_replicas": options.replicas,
        # A full stream says so; the other way, "old", throws tasks away without a word.
        "discard": "new",
        "max_age": nanos(definition.max_age),
        "max_bytes": options.max_bytes or -1,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        **definition.rest,
    }
    if definition.window:
        config["duplicate_window"] = nanos(definition.window)
    return config


def _differences(definition: _Definition, config: Mapping[str, Any], options: NatsOptions) -> list[str]:
    name, found = definition.name, []
    if config.get("discard") == "old" and any(config.get(limit, -1) > 0 for limit in ("max_msgs", "max_bytes")):
        found.append(f"stream {name} throws its oldest messages away when it is full: set its discard policy to new")
    if definition.retention == "workqueue" and config.get("max_age"):
        found.append(f"stream {name} throws tasks away after {config['max_age'] / 1e9:g} s (max_age): set it to 0")
    wanted = {"max_age": nanos(definition.max_age), "duplicate_window": nanos(definition.window)}
    if not definition.window or definition.retention == "limits":
        del wanted["duplicate_window"]
    for key, nano in wanted.items():
        if definition.retention == "limits" and config.get(key, 0) != nano:
            found.append(f"stream {name} has {key} {config.get(key, 0) / 1e9:g} s, the URL says {nano / 1e9:g} s")
    if "duplicate_window" in wanted and config.get("duplicate_window") != wanted["duplicate_window"]:
        seconds = config.get("duplicate_window", 0) / 1e9
        found.append(f"stream {name} has duplicate_window {seconds:g} s, the URL says {definition.window:g} s")
    if config.get("num_replicas", 1) < options.replicas:
        found.append(f"stream {name} has {config.get('num_replicas', 1)} replicas, the URL says {options.replicas}")
    return found
