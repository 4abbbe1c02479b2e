"""Debug messages, through ``logging``: only with ``debug=True``, and only at level DEBUG.

Four loggers, named after what they tell of: ``tranship.compat.sandai.client`` (calls), ``.transport`` and
``.async_transport`` (slots of the blocking and of the asynchronous client) and ``.shared_transport`` (shared
connections). What ``SANDAI_OPERATOR_CLIENT_DETAILED_DEBUG`` adds goes through :meth:`Debug.detail`.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Literal, get_args

from tranship.display import guard_loggers

__all__ = ["Debug", "Where"]

Where = Literal["client", "transport", "async_transport", "shared_transport"]

_ROOT: Final = "tranship.compat.sandai."


class Debug:
    """What one client says.

    Args:
        on: whether it says anything.
        detailed: whether it also says what goes on in its transport.
    """

    def __init__(self, *, on: bool, detailed: bool) -> None:
        self._on = on
        self._detailed = on and detailed
        if on:
            for where in get_args(Where):
                logging.getLogger(_ROOT + where)
            guard_loggers()

    def say(self, where: Where, text: str, *values: Any) -> None:
        """Log what a client does."""
        if self._on:
            logging.getLogger(_ROOT + where).debug(text, *values)

    def detail(self, where: Where, text: str, *values: Any) -> None:
        """Log what its transport does."""
        if self._detailed:
            logging.getLogger(_ROOT + where).debug(text, *values)
