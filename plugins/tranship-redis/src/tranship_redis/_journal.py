"""What became of batches whose answer was lost with the connection.

The server applies the commands of one connection in order, so one key tells all. With each batch its script
writes the batch's number into the key of the connection::

    <epoch>:<number of the last batch>:<exceptions of batches that may not have been answered yet>

Over a later connection the epoch is raised first, which shuts out whatever of the old connection is still under way,
and the key is read: batches up to its number were stored, the later ones were not and never will be. A batch is applied
only if the one before it was (or had been answered already), so there are no gaps but those we know of: what was sent
behind a batch that failed is *doomed*, and the next one does not wait for it.

The key and the messages are written in one step, so a server that comes back with older data, or with none, has
forgotten both or neither. Two limits: the key expires after an hour; and a server that is told to throw away keys when
its memory is full (``maxmemory-policy``) may throw away this one, as it may throw away tasks.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.driver import Answer, Outgoing
from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship.protocol import whole_of
from tranship_redis._batch import Batch, exceptions_of
from tranship_redis._channel import Channel
from tranship_redis._errors import Lost, again, error_of
from tranship_redis._keys import Keys
from tranship_redis._pack import bulk, millis
from tranship_redis._scripts import Script
from tranship_redis._wire import Reply

__all__ = ["SubmitJournal"]

Done = Callable[[Sequence[Answer] | Exception], None]

TTL: Final = 3600.0
"""Seconds that the key is kept after a batch; much longer than anybody waits for an answer."""
_MARGIN: Final = 300.0
_ARGUMENTS: Final = 4
_FIRST: Final = 1
_RAISED: Final = 2
_SUBMIT: Final = Script("submit")
_RESUME: Final = Script("resume")
_READ: Final = re.compile(rb"\d+:(\d+):(.*)", re.DOTALL)


class SubmitJournal:
    """Posts the batches of one connection, and knows what became of them once it has gone.

    Args:
        channel: where batches are posted.
        keys: names the key.
    """

    def __init__(self, channel: Channel, keys: Keys) -> None:
        self._channel = channel
        self.key = keys.link(secrets.token_hex(8))
        self._head = b"$7\r\nEVALSHA\r\n%b%b%b" % (bulk(_SUBMIT.sha), bulk(b"1"), bulk(self.key))
        self._ttl = bulk(millis(TTL))
        self._number = 0
        self._answered = 0
        """The last batch that is known to have been applied."""
        self._under_way: dict[int, tuple[Batch, float]] = {}
        """Batches without an answer, and when they were posted, in epoch seconds."""
        self._doomed: set[int] = set()
        """Those under way that were sent behind one that has failed: refused, whatever the key says later."""
        self._broke: TranshipError | None = None
        """The latest error that stopped a batch, and so the ones behind it."""

    def post(self, batch: Batch, done: Done) -> None:
        """Send ``batch``; ``done`` is called with its answers, or with :class:`Lost`, and later.

        Raises:
            BrokerUnreachable, ClosedError: it was not sent.
        """
        number = self._number + 1
        # Never a doomed one: as long as something is under way all the time, nothing would ever be applied again.
        before = self._answered
        if self._under_way:
            before = next((one for one in reversed(self._under_way) if one not in self._doomed), before)
        arguments = batch.arguments()
        head = b"*%d\r\n%b%b%b%b%b" % (
            4 + _ARGUMENTS + len(arguments),
            self._head,
            bulk(b"%d:%d:" % (_FIRST, before)),
            bulk(b"%d:%d:" % (_FIRST, number)),
            bulk(b"%d" % self._answered),
            self._ttl,
        )
        self._channel.post_script(_SUBMIT, b"".join((head, *arguments)), partial(self._replied, number, done))
        self._number = number
        self._under_way[number] = batch, time.time()

    def _replied(self, number: int, done: Done, reply: Reply) -> None:
        if isinstance(reply, Lost):
            return done(reply)
        batch, _ = self._under_way.pop(number)
        is_doomed = number in self._doomed
        self._doomed.discard(number)
        if reply == 1 or type(reply) is bytes:
            self._answered, self._broke = number, None
            return done(batch.stored(() if reply == 1 else exceptions_of(reply)))
        if not is_doomed and not isinstance(reply, TranshipError):
            self._doomed.update(one for one in self._under_way if one > number)
        return done(batch.failed(partial(_about, self._failure(reply))))

    def _failure(self, reply: Any) -> TranshipError:
        """Return why a batch was not applied."""
        if isinstance(reply, ResponseError):
            self._broke = error_of(reply, doing="submitting")
        elif isinstance(reply, TranshipError):
            return reply
        return self._broke or BrokerUnreachable("the message was sent behind one that was not stored; send it again")

    async def recall(self, channel: Channel) -> dict[int, list[Answer]]:
        """Find out, over a later connection, what became of the batches without an answer; return the answers of each,
        by the identity of its messages.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, Lost: it cannot be found out now.
        """
        reply = await channel.run(_RESUME, [self.key], [_RAISED, millis(TTL)])
        found = _READ.fullmatch(reply) if isinstance(reply, bytes) else None
        last = (whole_of(found[1]) or 0) if found else 0
        exceptions = exceptions_of(found[2]) if found and found[2] else {}
        answers: dict[int, list[Answer]] = {}
        for number, (batch, posted) in self._under_way.items():
            if number <= last and number not in self._doomed:
                answers[id(batch.messages)] = batch.stored(exceptions.get(str(number), ()))
            else:
                # In that time it may have been there, and have expired.
                is_known = abs(time.time() - posted) <= TTL - _MARGIN
                answers[id(batch.messages)] = batch.failed(_not_stored if is_known else _unknown)
        return answers


def _about(error: TranshipError, message: Outgoing) -> TranshipError:
    made = again(error)
    made.task_id = message.id
    return made


def _not_stored(message: Outgoing) -> TranshipError:
    text = "the connection was lost before the message had arrived; it was not stored"
    return BrokerUnreachable(text, task_id=message.id)


def _unknown(message: Outgoing) -> TranshipError:
    text = f"the broker's answer for task {message.id} was lost: it may have been submitted, or not"
    return SubmitUnknown(text, task_id=message.id)
