"""What there is of one orchestrator. HTTP has no connection that could be lost: each request finds its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final
from uuid import uuid4

import aiohttp

from tranship.errors import BrokerRefused
from tranship.ports import StoredResult
from tranship.settings import BrokerURL
from tranship_avtomatika._access import Access
from tranship_avtomatika._errors import AnswerLost, NotSent, Refused
from tranship_avtomatika._http import TOO_MANY, Http
from tranship_avtomatika._jobs import Hear, Jobs
from tranship_avtomatika._listener import Listener
from tranship_avtomatika._member import Member
from tranship_avtomatika._options import AvtomatikaOptions, tls_context
from tranship_avtomatika._queue import AvtomatikaQueue
from tranship_avtomatika._tasks import Work

__all__ = ["AvtomatikaConnection", "base_of"]


STATUS: Final = "/_public/status"
INTERNAL: Final = 500


class AvtomatikaConnection:
    """Made by :meth:`open`.

    Attributes:
        cancelled: called with ids of tasks that are to be stopped.
    """

    table = topic = lost = None

    def __init__(self, session: aiohttp.ClientSession, url: BrokerURL, options: AvtomatikaOptions) -> None:
        self._session = session
        self.http = Http(
            session,
            base_of(url),
            timeout=options.command_timeout,
            connect=options.connect_timeout,
            largest=options.max_message_size,
        )
        token = url.password or url.username
        access = Access(self.http, token, short_lived=options.sts)
        self.jobs = Jobs(self.http, options.jobs, options.client_token, worker=bool(token or options.certfile))
        self.member = Member(
            access,
            kind=options.worker_type,
            websocket=options.websocket,
            holding=self._works,
            taking=lambda: self.queue.inbox.wanted,
            cancelled=self._cancelled,
        )
        self.queue = AvtomatikaQueue(self.member, self.jobs, poll=options.poll_timeout, secret_key=options.secret_key)
        self.replies = Replies(self.jobs)
        self.cancelled: Callable[[Collection[str]], None] = lambda _ids: None
        self._listener = (
            Listener(access, connect=options.connect_timeout, cancelled=self._cancelled) if options.websocket else None
        )

    @classmethod
    async def open(cls, url: BrokerURL, options: AvtomatikaOptions) -> AvtomatikaConnection:
        """Return a connection to an orchestrator that answers.

        Raises:
            BrokerUnreachable: it does not.
            BrokerRefused: it is no orchestrator.
        """
        secure = url.scheme.endswith("https")
        connector = aiohttp.TCPConnector(ssl=tls_context(options) if secure else True)
        connection = cls(aiohttp.ClientSession(connector=connector, trust_env=False), url, options)
        try:
            await connection.ping()
        except BaseException:
            await _closed(connection._session)
            raise
        return connection

    @property
    def native(self) -> aiohttp.ClientSession:
        """The HTTP client."""
        return self._session

    async def ping(self) -> None:
        """Ask whether it is there."""
        try:
            found = await self.http.ask("GET", STATUS, headers={}, kind="status")
        except NotSent as error:
            if not isinstance(error.__cause__, aiohttp.ClientSSLError):
                raise
            text = f"{error}; set ca_certs to who has signed its certificate, or http:// where it speaks no TLS"
            raise BrokerRefused(text) from error
        except Refused as error:
            if error.status == TOO_MANY:
                return
            if error.status >= INTERNAL:
                raise
            text = f"{error}; is that an Avtomatika orchestrator? Expected {STATUS} to say that it is well"
            raise BrokerRefused(text) from error
        if not isinstance(found, dict) or found.get("status") != "ok":
            raise AnswerLost(f"{self.http.base}: GET {STATUS}: {found!r:.100} is not what an orchestrator says")

    def listen(self) -> None:
        """Hear what is cancelled."""
        if self._listener is not None:
            self._listener.start(self.member.name)

    def abort(self) -> None:
        """Ask nothing more."""
        self.queue.inbox.abort()
        self.jobs.abort()
        if self._listener is not None:
            self._listener.abort()

    async def aclose(self) -> None:
        """Give back what is held, and end everything."""
        try:
            await self.queue.close()
        finally:
            await self.jobs.aclose()
            if self._listener is not None:
                await self._listener.aclose()
            await _closed(self._session)

    def _works(self) -> Collection[Work]:
        return [one.work for one in self.queue.held]

    def _cancelled(self, ids: Collection[str]) -> None:
        """Stop tasks, which are told by their own ids or by their jobs'."""
        self.cancelled([work.task_id for work in self._works() if work.task_id in ids or work.job_id in ids])


class Replies:
    """See :class:`tranship.driver.ReplyQueue`: results of jobs come to who has submitted them.

    Args:
        jobs: of the connection.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.address = f"avtomatika/{uuid4().hex}"

    def hear(self, heard: Hear) -> None:
        """From now on call ``heard`` with what comes."""
        self._jobs.hear(heard)

    async def push(self, results: Sequence[StoredResult]) -> None:
        """A task's result went to its orchestrator, with its end: nobody else waits for it."""


async def _closed(session: aiohttp.ClientSession) -> None:
    """Close it, and let the loop, which may end with us, see its sockets off: that is done in later turns."""
    await session.close()
    for _ in range(3):
        await asyncio.sleep(0)


def base_of(url: BrokerURL) -> str:
    """Return where an orchestrator is, without credentials."""
    scheme = url.scheme.removeprefix("avtomatika+")
    host = f"[{url.host}]" if ":" in url.host else url.host or "localhost"
    place = host if url.port is None else f"{host}:{url.port}"
    return f"{scheme}://{place}{url.path.rstrip('/')}"
