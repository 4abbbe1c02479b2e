"""What became of batches whose answer was lost with the connection.

The server applies the commands of one connection in order, so one key tells all. With each batch its script
writes the batch's number into the key, the *marker*::

    <epoch>:<number of the last batch>:<exceptions of batches that may not have been answered yet>

After a lost connection the next one first raises the epoch, which shuts out whatever of the old connection is
still under way, and reads the marker: batches up to its number were stored, the later ones were not and never
will be. A batch is applied only if the one before it was (or had been answered already), so there are no gaps but
those we know of: what was sent behind a batch that failed is *doomed*, and the next one does not wait for it.

The marker and the messages are written in one step, so a server that comes back with older data, or with none,
has forgotten both or neither. Two limits: the marker expires after an hour; and a server that is told to throw
away keys when its memory is full (``maxmemory-policy``) may throw away the marker, as it may throw away tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from contextvars import Context
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.protocol import whole_of
from tranship_redis._batches import Batch, Exceptions, exceptions_of
from tranship_redis._errors import Lost, again, error_of
from tranship_redis._keys import Keys
from tranship_redis._link import Link
from tranship_redis._pack import bulk
from tranship_redis._scripts import Script
from tranship_redis._wire import Reply
from tranship_redis._writer import millis

__all__ = ["Marker"]

log = logging.getLogger("tranship.redis")

TTL: Final = 3600.0
"""Seconds the marker is kept after a batch; much longer than anybody waits for an answer."""
_MARGIN: Final = 300.0
_PAUSE: Final = 0.5
_ARGUMENTS: Final = 4
_SUBMIT: Final = Script("submit")
_RESUME: Final = Script("resume")
_MARKER: Final = re.compile(rb"\d+:(\d+):(.*)", re.DOTALL)


class Marker:
    """Posts batches, and answers each for good: from the server's reply, or else from the marker.

    Args:
        link: where batches are posted.
        keys: names the marker.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._key = keys.link(secrets.token_hex(8))
        self._head = b"$7\r\nEVALSHA\r\n%b%b%b" % (bulk(_SUBMIT.sha), bulk(b"1"), bulk(self._key))
        self._ttl = bulk(millis(TTL))
        self._epoch = 1
        self._number = 0
        self._answered = 0
        """The last batch that is known to have been applied."""
        self._under_way: dict[int, Batch] = {}
        self._doomed: set[int] = set()
        """Those under way that were sent behind one that has failed: refused, whatever the marker says later."""
        self._doubt: TranshipError | None = None
        """Why it is not known what became of the batches under way; None: they will be answered."""
        self._broke: TranshipError | None = None
        """The latest error that stopped a batch, and so the ones behind it."""
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        link.on_up(self._resume)

    def post(self, batch: Batch) -> None:
        """Send ``batch``; its answers come with the reply, or once the connection is back.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, ClosedError: it was not sent.
        """
        if self._doubt is not None:
            raise again(self._doubt)
        number = self._number + 1
        # Never a doomed one: as long as something is under way all the time, nothing would ever be applied again.
        before = self._answered
        if self._under_way:
            before = next((one for one in reversed(self._under_way) if one not in self._doomed), before)
        arguments = batch.arguments()
        head = b"*%d\r\n%b%b%b%b%b" % (
            4 + _ARGUMENTS + len(arguments),
            self._head,
            bulk(b"%d:%d:" % (self._epoch, before)),
            bulk(b"%d:%d:" % (self._epoch, number)),
            bulk(b"%d" % self._answered),
            self._ttl,
        )
        self._link.post_script(_SUBMIT, b"".join((head, *arguments)), partial(self._replied, number))
        self._number = number
        self._under_way[number] = batch
        batch.posted = time.time()

    def close(self) -> None:
        """The link has been closed: nobody will find out what became of what is still under way."""
        self._stop_asking()
        self._doubt = ClosedError("the backend was closed before the broker had answered")
        while self._under_way:
            self._under_way.pop(next(iter(self._under_way))).unknown(self._doubt)

    # Answers.

    def _replied(self, number: int, reply: Reply) -> None:
        batch = self._under_way.get(number)
        if batch is None:
            return  # closed
        if isinstance(reply, Lost):
            self._doubt = BrokerUnreachable(str(reply))
            return
        del self._under_way[number]
        is_doomed = number in self._doomed
        self._doomed.discard(number)
        if reply == 1 or type(reply) is bytes:
            self._answered, self._broke = number, None
            batch.stored(() if reply == 1 else exceptions_of(reply))
        elif isinstance(reply, ClosedError):
            batch.unknown(reply)
        else:
            if not is_doomed and not isinstance(reply, TranshipError):
                self._doomed.update(one for one in self._under_way if one > number)
            batch.failed(self._failure(reply))

    def _failure(self, reply: Any) -> TranshipError:
        """Return why a batch was not applied."""
        if isinstance(reply, ResponseError):
            self._broke = error_of(reply, doing="submitting")
        elif isinstance(reply, TranshipError):
            return reply
        return self._broke or BrokerUnreachable("the message was sent behind one that was not stored; send it again")

    # After a lost connection.

    async def _resume(self) -> None:
        """Find out about the batches under way; a hook of the link."""
        self._stop_asking()
        if self._under_way:
            await self._ask_or_wait()

    async def _ask_or_wait(self) -> None:
        try:
            await self._ask()
        except (BrokerUnreachable, ClosedError):
            raise  # the connection has gone again, or the server is not ready: the next one asks
        except TranshipError as error:
            # No reason to give the connection up: others can do with it. Nothing is submitted meanwhile.
            if type(error) is not type(self._doubt):
                log.warning("cannot find out what became of submitted tasks, trying again: %s", error)
            self._doubt = error
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._ask_again)

    def _ask_again(self) -> None:
        async def ask() -> None:
            # Where the connection has gone, the hook asks once it is back.
            with contextlib.suppress(BrokerUnreachable, ClosedError):
                await self._ask_or_wait()

        self._asking = asyncio.get_running_loop().create_task(ask(), context=Context())

    def _stop_asking(self) -> None:
        """Never ask twice at once: the second answer would be taken for what was sent after the first."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        self._timer = self._asking = None

    async def _ask(self) -> None:
        self._epoch += 1
        reply = await self._link.run(_RESUME, [self._key], [self._epoch, millis(TTL)])
        found = _MARKER.fullmatch(reply) if isinstance(reply, bytes) else None
        last = (whole_of(found[1]) or 0) if found else 0
        exceptions = exceptions_of(found[2]) if found and found[2] else {}
        self._answered = max(self._answered, last)
        self._doubt = None
        under_way, self._under_way = self._under_way, {}
        doomed, self._doomed = self._doomed, set()
        for number, batch in under_way.items():
            is_stored = number <= last and number not in doomed
            self._decide(batch, stored=is_stored, exceptions=exceptions.get(str(number), ()))

    @staticmethod
    def _decide(batch: Batch, *, stored: bool, exceptions: Exceptions) -> None:
        error = BrokerUnreachable("the connection was lost before the message had arrived; it was not stored")
        if stored:
            batch.stored(exceptions)
        elif abs(time.time() - batch.posted) > TTL - _MARGIN:
            batch.unknown(error)  # the marker may have been there, and have expired
        else:
            batch.failed(error)
