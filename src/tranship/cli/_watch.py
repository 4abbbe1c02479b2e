"""Showing something again and again, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from tranship.errors import BrokerUnreachable

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation

__all__ = ["EVERY", "Watch", "watched"]

EVERY = 2.0
"""Seconds where none are given."""

Watch = Annotated[
    float | None,
    typer.Option(
        "--watch",
        "-w",
        metavar="[SECONDS]",
        help=f"Show it again, until Ctrl-C; without a number every {EVERY:g} seconds. With --json a line each.",
    ),
]


def watched(call: Invocation, every: float | None, look: Callable[[], None]) -> None:
    """Call ``look``, which prints; again every so many seconds, or once when that is None.

    An outage of the broker does not end it, once it has been there.

    Raises:
        InvalidOptionError: ``every`` is not above zero.
    """
    from tranship.checks import positive

    if every is None:
        look()
        return
    positive("--watch", every)
    call.output.in_lines = True
    try:
        _show(call, every, look)
        while True:
            time.sleep(every)
            try:
                _show(call, every, look)
            except BrokerUnreachable as error:
                call.output.note(f"{time.strftime('%X')} {error}; trying again", style="red")
    except KeyboardInterrupt:
        # How it is ended.
        return


def _show(call: Invocation, every: float, look: Callable[[], None]) -> None:
    console = call.output.out
    if not console.is_terminal or call.json:
        look()
        sys.stdout.flush()
        return
    # Made first and shown at once: a screen that is cleared and filled slowly flickers.
    with console.capture() as made:
        look()
    console.clear()
    call.output.note(f"{time.strftime('%X')}, every {every:g} s; Ctrl-C ends it")
    sys.stdout.write(made.get())
    sys.stdout.flush()
