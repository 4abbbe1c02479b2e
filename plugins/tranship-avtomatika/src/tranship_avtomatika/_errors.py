"""What an orchestrator may say instead of what it was asked for. All of it may be over soon."""

from __future__ import annotations

from tranship.errors import BrokerUnreachable

__all__ = ["AnswerLost", "NotSent", "Refused"]


class NotSent(BrokerUnreachable):
    """There was no connection: the orchestrator knows nothing of the request."""


class AnswerLost(BrokerUnreachable):
    """The orchestrator may have done it: it did not answer in time, or not with something that can be read."""


class Refused(BrokerUnreachable):
    """It has answered, and said no.

    Attributes:
        status: of HTTP.
        said: its own words.
    """

    def __init__(self, message: str, *, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said
