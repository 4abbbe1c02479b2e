"""Sessions: a name, when it began, and a signature; nothing is stored but which ones were ended early."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from typing import Final

__all__ = ["COOKIE", "Sessions"]

COOKIE: Final = "tranship_session"
LIFE: Final = 7 * 86_400.0
"""Seconds that a session lasts, at most."""
ENDED: Final = 10_000
"""Sessions that were ended early, as far as they are remembered."""
_NAME: Final = re.compile(r"([0-9a-f]{1,12})-[\w-]{10,60}", re.ASCII)


class Sessions:
    """Those of one dashboard.

    Args:
        secret: what they are signed with; a process that has the same knows them, too.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"tranship-dashboard\0" + secret.encode()).digest()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def begin(self) -> str:
        """Return the name of a new one."""
        return f"{int(time.time()):x}-{secrets.token_urlsafe(18)}"

    def end(self, name: str) -> None:
        """End one before its time is over."""
        self._ended[name] = None
        if len(self._ended) > ENDED:
            self._ended.popitem(last=False)

    def holds(self, name: str) -> bool:
        """Whether one of ours goes on."""
        found = _NAME.fullmatch(name)
        return found is not None and name not in self._ended and 0 <= time.time() - int(found[1], 16) + 60 < LIFE

    def read(self, cookie: str) -> str | None:
        """Return the name of the session that a cookie opens; None: none."""
        name, _, signature = cookie.partition(".")
        right = hmac.compare_digest(signature.encode(), self.sign("session", name).encode())
        return name if right and self.holds(name) else None

    def cookie(self, name: str) -> str:
        """Return the value of the cookie that opens a session."""
        return f"{name}.{self.sign('session', name)}"

    def sign(self, purpose: str, name: str) -> str:
        """Return what only somebody with the secret can say of a session."""
        return hmac.new(self._key, f"{purpose}\0{name}".encode(), hashlib.sha256).hexdigest()
