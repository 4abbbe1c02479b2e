"""Making the server forget requests that nobody waits for any more.

A pull whose inbox has gone stays in the server's list until it expires. nats-server (seen with 2.9) handles one that it
meets while it redelivers as if the message were new: the message that was given back is lost until its lease ends, and
the last one of the stream is handed out twice. Asking about a consumer makes the server clean its list.
"""

from __future__ import annotations

from collections.abc import Iterable

from tranship_nats._asks import Ask
from tranship_nats._held import consumer_of
from tranship_nats._link import Link

__all__ = ["asks_about", "tidy"]


def asks_about(api: str, consumers: Iterable[tuple[bytes, bytes]]) -> list[Ask]:
    """Return the requests that ask about consumers, each a stream's and its own name."""
    return [(b"%b.CONSUMER.INFO.%b.%b" % (api.encode(), *one), b"", b"") for one in dict.fromkeys(consumers)]


async def tidy(link: Link, api: str, acks: Iterable[bytes]) -> None:
    """Clean the lists of the consumers that acknowledgements belong to, before messages are given back.

    Raises:
        BrokerUnreachable: no connection; nothing was sent.
    """
    # Whatever the answers are: giving back works without, only later.
    await link.ask_all(asks_about(api, map(consumer_of, acks)))
