"""What is secret in a URL, and texts without it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["REDACTED", "is_secret", "redact"]

REDACTED: Final = "***"

# Texts, which re compiles when they are first used: most processes show no URL.
_TELLING: Final = r"(?i)passw|passphrase|secret|token|credential|signature|key$|(^|[_.-])(pass|pwd)$"
# Greedy up to the last "@": where a password holds a raw "@" or "/", too much is hidden rather than too little.
_USERINFO: Final = r"(?s)^([^:@]*:/{0,2})?.*@"
# ``redis://user:SECRET`` without an "@" is a host with a bad port. What follows a good one may end a sentence.
_NO_PORT: Final = r"""((?:^|//|,)(?:\[[^\]/?]*\]|[^/:,@?\[\]\s]*)):(?!//|\d{1,5}(?:[/?,\s]|['"`)>.,:;]*$))[^/?,]+"""
_OPTION: Final = r"([?&]([^=&\s]+)=)[^&\s]*"


def is_secret(name: str) -> bool:
    """Whether an option of that name holds a password, a secret, a token or a key, and not where a file with one is."""
    return re.search(_TELLING, name) is not None and not name.lower().endswith("_file")


def redact(text: str) -> str:
    """Return ``text`` without what may be a password.

    That is what stands before its last ``@``, what stands in a port's place and is none, and secret options' values.

    For texts that could not be read as a URL, and for URLs inside of options.
    """
    hidden = re.sub(_USERINFO, lambda found: f"{found[1] or ''}{REDACTED}@", text)
    place, mark, options = hidden.partition("?")
    place = re.sub(_NO_PORT, lambda found: f"{found[1]}:{REDACTED}", place)
    return re.sub(
        _OPTION, lambda found: found[1] + REDACTED if is_secret(found[2]) else found[0], place + mark + options
    )
