"""How connections, channels and single messages end, as the server or the network had it."""

from __future__ import annotations

__all__ = ["ChannelEnded", "Ended", "Nacked", "Returned", "WireEnded"]


class Ended(Exception):
    """It is over.

    Attributes:
        code: AMQP's reply code; 0: nobody said one.
        text: the server's words, or ours where it said none.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(f"{text} ({code})" if code else text)
        self.code = code
        self.text = text


class WireEnded(Ended):
    """The connection has ended, with everything on it."""


class ChannelEnded(Ended):
    """The channel has been closed; the connection lives."""


class Nacked(Ended):
    """The server did not take a message."""


class Returned(Ended):
    """The server has no queue for a message, and has not kept it."""
