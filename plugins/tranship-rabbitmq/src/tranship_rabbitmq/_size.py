"""The server's own limit on a message: nobody can ask for it, and a channel ends over a message that is larger."""

from __future__ import annotations

from tranship.driver import Outgoing
from tranship.errors import BrokerUnreachable, MessageTooLarge, TranshipError
from tranship_rabbitmq._errors import largest
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["SizeBound"]


class SizeBound:
    """What is known of the server's ``max_message_size``, over one connection."""

    def __init__(self) -> None:
        self._limit = 0
        self._judged: Ended | None = None
        """The end of a channel whose culprit has been found."""

    def check(self, message: Outgoing) -> None:
        """Do nothing unless the server has refused a message of that size before.

        Raises:
            MessageTooLarge: it has; nothing is written.
        """
        if 0 < self._limit < len(message.source.body):
            raise _too_large(message, self._limit)

    def judge(self, message: Outgoing, why: Ended) -> TranshipError | None:
        """Return what the end of the channel means for ``message``, if it ended over a message that was too large.

        Called for each message without a confirm, in the order they were published: the first that is too large
        ended the channel. Of those before it nothing is known; those behind it were not taken.
        """
        limit = largest(why)
        if limit is None:
            return None
        self._limit = limit
        if len(message.source.body) > limit:
            self._judged = why
            return _too_large(message, limit)
        if self._judged is not why:
            return None
        return BrokerUnreachable(
            f"submitting task {message.id}: not stored, the channel ended over a larger message before it",
            task_id=message.id,
        )


def _too_large(message: Outgoing, limit: int) -> MessageTooLarge:
    size = len(message.source.body)
    return MessageTooLarge(
        f"task {message.facts.task!r} has a body of {size:,} bytes; the server's max_message_size is "
        f"{limit:,}: raise it there (rabbitmq.conf), or send less",
        size=size,
        limit=limit,
        task_id=message.id,
    )
