"""JetStream's requests, as far as we use them: JSON there, JSON back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from tranship.errors import BrokerRefused, TranshipError, UnsupportedError
from tranship_nats._asks import Answer, Ask
from tranship_nats._errors import (
    MESSAGE_MISSING,
    SEQUENCE_MISSING,
    ApiError,
    NoAnswer,
    api_error,
    error_in,
    no_responders,
)
from tranship_nats._frames import headers_of
from tranship_nats._link import Link

__all__ = ["Api", "Stored", "nanos"]

_WINDOW: Final = 256
"""Requests under way at once."""
_ELECTION: Final = 10.0
"""Seconds that a cluster may take to agree on who leads."""
_PAGE: Final = 100_000
"""Subjects per answer of STREAM.INFO, as the server has it."""


def nanos(seconds: float) -> int:
    """Return a duration as JetStream takes it."""
    return max(0, round(seconds * 1e9))


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream."""

    subject: str
    seq: int
    time: float
    """Epoch seconds by the server's clock."""
    headers: Mapping[bytes, bytes]
    block: bytes
    """The headers as they are stored."""
    data: bytes


class Api:
    """Requests to JetStream over a link. All methods raise BrokerUnreachable, BrokerRefused and StorageFull.

    Args:
        link: the backend's.
        prefix: ``$JS.API``, or with a domain.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self.prefix = prefix
        self._link = link
        self._answered = False
        """Whether JetStream was there: a server that leaves, or comes, has it later than the connection."""

    @property
    def generation(self) -> int:
        """How many connections there have been."""
        return self._link.generation

    async def call(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one request and return its answer.

        Raises:
            ApiError: JetStream said no.
            UnsupportedError: there is no JetStream.
        """
        payload = b"" if body is None else orjson.dumps(body)
        headers, data = await self._link.request(f"{self.prefix}.{verb}", payload)
        if no_responders(headers):
            if self._answered:
                raise api_error(ApiError(503, 10008, "nobody answers"), f"{self._link.place}: {verb}")
            raise UnsupportedError(
                f"{self._link.place} has no JetStream (nobody answers on {self.prefix}.{verb.partition('.')[0]}): "
                "start the server with -js, or with `jetstream` in its configuration"
            )
        self._answered = True
        if (error := error_in(data)) is not None:
            raise error
        found: dict[str, Any] = orjson.loads(data)
        return found

    async def find(self, verb: str, *missing: int) -> dict[str, Any] | None:
        """Ask for something; None: it is not there.

        Args:
            verb: the request, such as ``STREAM.INFO.work``.
            missing: the error numbers that mean so.
        """
        try:
            return await self.call(verb)
        except ApiError as error:
            if error.number in missing:
                return None
            raise api_error(error, f"{self._link.place}: {verb}") from error

    async def make(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do something that has to succeed."""
        try:
            return await self.call(verb, body)
        except ApiError as error:
            raise api_error(error, f"{self._link.place}: {verb}") from error

    async def create(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a stream or a consumer; of one that is there already with the same definition, nothing changes.

        In a cluster that has just lost a server the answer may take an election: it is asked for again meanwhile.

        Raises:
            ApiError: JetStream said no.
            UnsupportedError: there is no JetStream.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _ELECTION
        while True:
            try:
                return await self.call(verb, body)
            except NoAnswer:
                if loop.time() >= until:
                    raise

    async def make_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send many requests, some hundred at a time; return their answers in order."""
        answers: list[Answer] = []
        for start in range(0, len(asks), _WINDOW):
            answers += await self._link.ask_all(asks[start : start + _WINDOW])
        return answers

    # Streams.

    async def subjects(self, stream: str, pattern: str) -> dict[str, int]:
        """Return how many messages there are of each subject that matches."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            info = await self.make(f"STREAM.INFO.{stream}", body)
            page = info["state"].get("subjects") or {}
            found |= page
            if len(page) < _PAGE:
                return found

    async def purge(self, stream: str, pattern: str | None = None) -> int:
        """Delete every message of a subject, or all; return how many."""
        answer = await self.make(f"STREAM.PURGE.{stream}", {} if pattern is None else {"filter": pattern})
        return int(answer.get("purged", 0))

    def purging(self, stream: str, pattern: str) -> Ask:
        """The request that deletes every message of a subject."""
        return f"{self.prefix}.STREAM.PURGE.{stream}".encode(), b"", orjson.dumps({"filter": pattern})

    def deleting(self, stream: str, seq: int) -> Ask:
        """The request that deletes one message."""
        return f"{self.prefix}.STREAM.MSG.DELETE.{stream}".encode(), b"", orjson.dumps({"seq": seq, "no_erase": True})

    async def delete(self, stream: str, seq: int) -> bool:
        """Delete one message; False: it was gone."""
        body = {"seq": seq, "no_erase": True}
        try:
            await self.call(f"STREAM.MSG.DELETE.{stream}", body)
        except ApiError as error:
            if error.number in (SEQUENCE_MISSING, MESSAGE_MISSING):
                return False
            raise api_error(error, f"{self._link.place}: deleting from {stream}") from error
        return True

    # Messages.

    def getting(self, stream: str, body: Mapping[str, Any]) -> Ask:
        """The request for one message, answered by the stream's leader: others may not have it yet."""
        return f"{self.prefix}.STREAM.MSG.GET.{stream}".encode(), b"", orjson.dumps(body)

    def read(self, answer: Answer, stream: str) -> Stored | None:
        """Return the message that an answer to :meth:`getting` holds; None: there is none.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        if isinstance(answer, TranshipError):
            raise answer
        headers, data = answer
        doing = f"{self._link.place}: reading from {stream}"
        if no_responders(headers):
            raise api_error(ApiError(503, 10008, "nobody answers"), doing)
        if (error := error_in(data)) is not None:
            if error.number in (MESSAGE_MISSING, SEQUENCE_MISSING):
                return None
            raise api_error(error, doing)
        return stored_of(data, doing)

    async def get(self, stream: str, **body: Any) -> Stored | None:
        """Return one message: by ``seq``, ``last_by_subj``, or ``next_by_subj`` from ``seq`` on."""
        (answer,) = await self._link.ask_all([self.getting(stream, body)])
        return self.read(answer, stream)

    async def walk(self, stream: str, pattern: str, after: int = 0) -> AsyncIterator[Stored]:
        """Yield the messages whose subject matches, in order, from behind sequence ``after``."""
        while (found := await self.get(stream, seq=after + 1, next_by_subj=pattern)) is not None:
            yield found
            after = found.seq

    async def latest(self, stream: str, pattern: str) -> list[Stored]:
        """Return the latest message of each subject that matches."""
        subjects = await self.subjects(stream, pattern)
        asks = [self.getting(stream, {"last_by_subj": subject}) for subject in subjects]
        found = [self.read(answer, stream) for answer in await self.make_all(asks)]
        return [one for one in found if one is not None]


def stored_of(data: bytes, doing: str) -> Stored:
    """Return the message in an answer of STREAM.MSG.GET."""
    try:
        message = orjson.loads(data)["message"]
        block = base64.b64decode(message.get("hdrs", ""))
        return Stored(
            subject=message["subject"],
            seq=message["seq"],
            time=datetime.fromisoformat(message["time"]).timestamp(),
            headers=headers_of(block),
            block=block,
            data=base64.b64decode(message.get("data", "")),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BrokerRefused(f"{doing}: the answer cannot be read ({error!r})") from error
