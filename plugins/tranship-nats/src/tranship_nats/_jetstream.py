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
from tranship_nats._connection import Answer, Ask, NatsConnection
from tranship_nats._errors import (
    MESSAGE_MISSING,
    SEQUENCE_MISSING,
    ApiError,
    NoAnswer,
    again,
    api_error,
    error_in,
    no_responders,
)
from tranship_nats._message import headers_of

__all__ = ["JetStream", "Seen", "checked", "moment", "nanos"]

_WINDOW: Final = 256
"""Requests under way at once."""
_ELECTION: Final = 10.0
"""Seconds that a cluster may take to agree on who leads."""
_PAGE: Final = 100_000
"""Subjects per answer of STREAM.INFO, as the server has it."""


def nanos(seconds: float) -> int:
    """Return a duration as JetStream takes it."""
    return max(0, round(seconds * 1e9))


def moment(found: Any) -> float | None:
    """Return a time of the server's in epoch seconds; None: it is none."""
    try:
        return datetime.fromisoformat(found).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Seen:
    """One message of a stream, looked at."""

    subject: str
    seq: int
    time: float
    """Epoch seconds by the server's clock."""
    block: bytes
    """Its headers as they are stored."""
    data: bytes

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Its headers."""
        return headers_of(self.block)


class JetStream:
    """Requests to JetStream over one connection. All methods raise BrokerUnreachable, BrokerRefused and StorageFull.

    Args:
        connection: the connection.
        prefix: ``$JS.API``, or with a domain.
    """

    def __init__(self, connection: NatsConnection, prefix: str) -> None:
        self.connection, self.prefix = connection, prefix
        self._answered = False
        """Whether JetStream was there: a server that leaves, or comes, has it later than the connection."""

    async def call(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one request and return its answer.

        Raises:
            ApiError: JetStream said no.
            UnsupportedError: there is no JetStream.
        """
        place, ask = self.connection.place, self._asking(verb, body)
        (answer,) = await self.connection.ask_all([ask])
        if isinstance(answer, TranshipError):
            raise answer
        headers, data = answer
        if no_responders(headers):
            if self._answered:
                raise api_error(ApiError(503, 10008, "nobody answers"), f"{place}: {verb}")
            raise UnsupportedError(
                f"{place} has no JetStream (nobody answers on {self.prefix}.{verb.partition('.')[0]}): "
                "start the server with -js, or with `jetstream` in its configuration"
            )
        self._answered = True
        if (error := error_in(data)) is not None:
            raise error
        found: dict[str, Any] = orjson.loads(data)
        return found

    async def find(self, verb: str, *missing: int) -> dict[str, Any] | None:
        """Ask for something; None: it is not there, as one of the error numbers ``missing`` says."""
        try:
            return await self.call(verb)
        except ApiError as error:
            if error.number in missing:
                return None
            raise api_error(error, f"{self.connection.place}: {verb}") from error

    async def make(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do something that has to succeed."""
        try:
            return await self.call(verb, body)
        except ApiError as error:
            raise api_error(error, f"{self.connection.place}: {verb}") from error

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
            answers += await self.connection.ask_all(asks[start : start + _WINDOW])
        return answers

    def _asking(self, verb: str, body: Mapping[str, Any] | None) -> Ask:
        return f"{self.prefix}.{verb}".encode(), b"", b"" if body is None else orjson.dumps(body)

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

    async def purge(self, wanted: Sequence[tuple[str, str, int]]) -> list[bool]:
        """Of each stream and subject delete the messages up to a sequence; say of each whether there was any."""
        asks = [
            self._asking(f"STREAM.PURGE.{one}", {"filter": subject, "seq": seq + 1}) for one, subject, seq in wanted
        ]
        doing = f"{self.connection.place}: purging"
        return [orjson.loads(checked(one, doing)).get("purged", 0) > 0 for one in await self.make_all(asks)]

    def deleting(self, stream: str, seq: int) -> Ask:
        """The request that deletes one message."""
        return self._asking(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})

    # Messages.

    async def get(self, stream: str, **body: Any) -> Seen | None:
        """Return one message: by ``seq``, ``last_by_subj``, or ``next_by_subj`` from ``seq`` on."""
        (found,) = await self.get_all([(stream, body)])
        return found

    async def get_all(self, wanted: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Seen | None]:
        """Return messages of streams; each stream's leader is asked: others may not have them yet."""
        answers = await self.make_all([self._asking(f"STREAM.MSG.GET.{stream}", body) for stream, body in wanted])
        doing = f"{self.connection.place}: reading from"
        return [_seen(answer, f"{doing} {stream}") for answer, (stream, _) in zip(answers, wanted, strict=True)]

    async def walk(self, stream: str, pattern: str, after: int = 0) -> AsyncIterator[Seen]:
        """Yield the messages whose subject matches, in order, from behind sequence ``after``."""
        while (found := await self.get(stream, seq=after + 1, next_by_subj=pattern)) is not None:
            yield found
            after = found.seq


def checked(answer: Answer, doing: str, missing: Sequence[int] = ()) -> bytes:
    """Return what was answered.

    Args:
        answer: of a request.
        doing: what was being done, for errors.
        missing: error numbers that mean that there is nothing; the answer is then empty.

    Raises:
        BrokerUnreachable, BrokerRefused, StorageFull.
    """
    if isinstance(answer, TranshipError):
        raise again(answer)
    headers, data = answer
    if no_responders(headers):
        raise api_error(ApiError(503, 10008, "nobody answers"), doing)
    if (error := error_in(data)) is None:
        return data
    if error.number in missing:
        return b""
    raise api_error(error, doing)


def _seen(answer: Answer, doing: str) -> Seen | None:
    data = checked(answer, doing, (MESSAGE_MISSING, SEQUENCE_MISSING))
    if not data:
        return None
    try:
        message = orjson.loads(data)["message"]
        return Seen(
            subject=message["subject"],
            seq=message["seq"],
            time=datetime.fromisoformat(message["time"]).timestamp(),
            block=base64.b64decode(message.get("hdrs", "")),
            data=base64.b64decode(message.get("data", "")),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BrokerRefused(f"{doing}: the answer cannot be read ({error!r})") from error
