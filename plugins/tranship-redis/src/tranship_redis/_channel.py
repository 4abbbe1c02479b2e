"""What is said over one socket: commands and scripts, each answered through a callback or awaited.

Commands of one tick of the loop leave in one write, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from redis.exceptions import ResponseError

from tranship.errors import BrokerUnreachable, TranshipError
from tranship_redis._errors import Lost, error_of
from tranship_redis._pack import Part, pack
from tranship_redis._scripts import Script
from tranship_redis._server import ServerInfo
from tranship_redis._wire import Reply, Then, Wire

__all__ = ["Channel"]

_SHOWN: Final = 200
"""Characters of a key in an error."""


class Channel:
    """One socket of a connection.

    Args:
        place: the server, for errors.
        lost: called once when it has gone otherwise than by closing, with the reason.
    """

    server: ServerInfo
    """What the server said of itself."""
    hold: Callable[[], None]
    """Leave what is posted next to :attr:`flush`, which has to follow in the same tick: the loop is spared a turn."""
    flush: Callable[[], None]
    """Send at once what was posted in this tick, instead of at its end: nothing more is to come."""
    _post: Callable[[bytes, Then, int], None]
    _wire: Wire

    def __init__(self, place: str, lost: Callable[[TranshipError], None]) -> None:
        self.place, self._lost = place, lost
        self._why: TranshipError = BrokerUnreachable(f"{place} has not been connected to")

    def use(self, wire: Wire) -> None:
        """Say everything over ``wire``, which was made with :meth:`gone`."""
        self._wire, self._post, self.hold, self.flush = wire, wire.post, wire.hold, wire.flush

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._wire.gone

    def post(self, data: bytes, then: Then, *, pushes: int = 0) -> None:
        """Send one packed command; everything posted in one tick leaves in one write, in order.

        Args:
            data: one command, as :func:`~tranship_redis._pack.pack` makes it.
            then: called exactly once, on the loop: with the reply (an error reply is a value), with
                :class:`Lost` when the connection went after the command had left (its fate is unknown), with
                BrokerUnreachable when it went before (it has not been carried out), or with ClosedError.
            pushes: for (P)SUBSCRIBE and (P)UNSUBSCRIBE of so many channels, at least one: RESP3 answers
                them by pushes; ``then(None)`` after the last of them.

        Raises:
            BrokerUnreachable: it has gone.
            ClosedError: it has been closed.
        """
        self._post(data, then, pushes)

    def post_script(self, script: Script, data: bytes, then: Then) -> None:
        """Post ``data``, an EVALSHA of ``script``; where the server has lost the script, load it and post again.

        Nothing had run then, but what was posted meanwhile runs before it: where the order of commands
        matters, post it as any other command and look at the answer for ``NOSCRIPT``.
        """

        def answered(reply: Reply) -> None:
            if type(reply) is ResponseError and reply.args[0].startswith("NOSCRIPT"):
                self._load_and_post(script, data, then)
            else:
                then(reply)

        self._post(data, answered, 0)

    def precede(self, post: Callable[[], object]) -> None:
        """Call ``post`` before anything else is posted next: what it posts travels ahead of that."""
        self._wire.ahead = post

    async def call(self, *parts: Part) -> Reply:
        """Send one command and return its reply.

        Cancelled: carried out or not; the connection and everybody else's answers are not harmed.

        Raises:
            BrokerRefused, StorageFull, BrokerUnreachable: the server's error, see :func:`error_of`.
            Lost, BrokerUnreachable, ClosedError: as in :meth:`post`.
        """
        answer = _Answer()
        self.hold()
        try:
            self.post(pack(*parts), answer)
        finally:
            self.flush()
        reply = await answer.future
        return self._good(reply, parts[:2]) if isinstance(reply, Exception) else reply

    async def call_all(self, commands: Sequence[Sequence[Part]]) -> list[Reply]:
        """Send several commands in one write and return their replies; the rest as in :meth:`call`."""
        if not commands:
            return []
        replies: list[Reply] = []
        answer = _Answer()

        def answered(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(commands):
                answer(None)

        self.hold()
        try:
            for command in commands:
                self.post(pack(*command), answered)
        finally:
            self.flush()
        await answer.future
        return [
            self._good(reply, command[:2]) if isinstance(reply, Exception) else reply
            for reply, command in zip(replies, commands, strict=True)
        ]

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Part] = ()) -> Reply:
        """Run a script and return its reply; the rest as in :meth:`call` and :meth:`post_script`."""
        answer = _Answer()
        self.hold()
        try:
            self.post_script(script, script.pack(keys, args), answer)
        finally:
            self.flush()
        reply = await answer.future
        return self._good(reply, (f"script {script.name}", *keys[:3])) if isinstance(reply, Exception) else reply

    def _load_and_post(self, script: Script, data: bytes, then: Then) -> None:
        try:
            self.post(script.load(), _ignore)
            self.post(data, then)
        except TranshipError as error:
            then(error)

    def _good(self, failed: Exception, parts: Sequence[Part]) -> Reply:
        if not isinstance(failed, ResponseError):
            raise failed
        # Command and key only: what follows them may be somebody's data.
        raise error_of(failed, doing=f"{self.place}: {' '.join(map(_shown, parts))}")

    # Its end.

    def gone(self, wire: Wire, why: str, cause: BaseException | None) -> None:
        """Answer everything that waits: the wire has gone."""
        lost, self._why = Lost(f"{self.place}: {why}"), BrokerUnreachable(f"{self.place}: {why}")
        lost.__cause__ = self._why.__cause__ = cause
        wire.fail(lost, self._why)
        self._lost(self._why)

    def abort(self, why: str) -> None:
        """Drop the socket; what is under way is lost."""
        if not self._wire.gone:
            self._wire.abort(why)

    def fail(self, error: TranshipError) -> None:
        """Take no more, and answer what waits with ``error``."""
        if not self._wire.gone:
            self._why = error
            self._wire.fail(error, error)

    async def aclose(self) -> None:
        """Close the socket, after it has failed."""
        await self._wire.close()


class _Answer:
    """A callback that resolves a future, whose owner may have gone."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def __call__(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)


def _shown(part: Part) -> str:
    text = part.decode(errors="replace") if isinstance(part, bytes) else str(part)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _ignore(_: Reply) -> None:
    pass
