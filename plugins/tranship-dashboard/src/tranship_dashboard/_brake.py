"""A brake on guessing: who gives wrong tokens has to wait before he may give another."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

__all__ = ["FREE", "PAUSE", "Brake", "Braked", "address_of"]

FREE: Final = 10
"""Wrong tokens from one address before it has to wait."""
PAUSE: Final = 60.0
"""Seconds that it waits; also after which wrong tokens are forgotten."""
MOST: Final = 10_000
"""Addresses that are remembered; of more, those that were wrong last."""


class Braked(Exception):
    """An address has given too many wrong tokens.

    Args:
        seconds: how long it has to wait.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(f"too many wrong tokens came from this address; try again in {self.seconds} s")


@dataclass(slots=True)
class _Wrong:
    count: int
    until: float
    """When it is forgotten."""


class Brake:
    """Counts wrong tokens by address, on one event loop.

    Args:
        clock: seconds, by a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, _Wrong] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise Braked if no token is to be looked at that comes from there, right or wrong."""
        found = self._wrong.get(address)
        if found is None:
            return
        if (left := found.until - self._clock()) <= 0:
            del self._wrong[address]
        elif found.count >= FREE:
            raise Braked(left)

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        found = self._wrong.setdefault(address, _Wrong(0, 0.0))
        found.count, found.until = found.count + 1, self._clock() + PAUSE
        self._wrong.move_to_end(address)
        if len(self._wrong) > MOST:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """Forget what was wrong."""
        self._wrong.pop(address, None)


def address_of(scope: Scope) -> str:
    """Return whom a request is counted for: an IPv4 address, or the network of 64 bits that an IPv6 address is in."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A socket of Unix has none: all who come through it are one.
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.IPv6Network((int(address), 64), strict=False).network_address)
