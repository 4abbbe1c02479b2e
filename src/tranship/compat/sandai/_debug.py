"""Debug messages, through ``logging``: only with ``debug=True``, and only at level DEBUG.

Four loggers under the names that the package's users configure: ``sandai.operator_client.client`` (calls),
``.transport`` and ``.async_transport`` (slots of the blocking and of the asynchronous client) and
``.shared_transport`` (shared connections). What ``SANDAI_OPERATOR_CLIENT_DETAILED_DEBUG`` adds goes through
:meth:`Debug.detail`.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Literal, get_args

from tranship.display import guard_loggers

__all__ = ["Debug", "Where"]

Where = Literal["client", "transport", "async_transport", "shared_transport"]

_ROOT: Final = "sandai.operator_client."


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
            guard_loggers(_ROOT.rstrip("."))

    @property
    def detailed(self) -> bool:
        """Whether what goes on in the transport is logged, too."""
        return self._detailed

    def say(self, where: Where, text: str, *values: Any) -> None:
        """Log what a client does."""
        if self._on:
            logging.getLogger(_ROOT + where).debug(text, *values)

    def detail(self, where: Where, text: str, *values: Any) -> None:
        """Log what its transport does."""
        if self._detailed:
            logging.getLogger(_ROOT + where).debug(text, *values)
