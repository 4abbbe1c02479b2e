"""Asking before something is deleted for good."""

from __future__ import annotations

import sys

from tranship.errors import TranshipError

__all__ = ["confirm"]


def confirm(question: str) -> None:
    """Return if the answer is yes.

    Raises:
        TranshipError: it is another one, or there is nobody to ask.
    """
    print(f"{question} [y/N]", end=" ", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        # Where there is no terminal, nobody typed the end of the line.
        print(end="" if answer else "\n", file=sys.stderr)
        raise TranshipError("nothing was deleted; answer y, or give --yes")
