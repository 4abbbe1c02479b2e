"""``tranship top``."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tranship.cli._invocation import Invocation, command
from tranship.errors import ConfigurationError, TranshipError, UnsupportedError

if TYPE_CHECKING:
    from tranship.cli._top_screen import Action, Look, Screen
    from tranship.operations import History, Operator

__all__ = ["run"]

EVERY: Final = 1.0
"""Seconds between two looks."""
MOST: Final = 200
"""Dead letters that are listed."""
_ARROWS: Final = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}

Every = Annotated[float, typer.Option("--every", metavar="SECONDS", help="Look again after so long.")]


@command()
def run(call: Invocation, every: Every = EVERY) -> None:
    """Show queues, tasks, workers and dead letters as they change; keys pause, resume, cancel and replay."""
    from tranship.checks import positive

    positive("--every", every)
    if call.json or not (sys.stdin.isatty() and call.output.out.is_terminal):
        raise ConfigurationError("top needs a terminal; programs take `tranship queues --watch --json`")
    with call.operator() as operator, _keys() as keys:
        _show(call, operator, keys, every)


def _show(call: Invocation, operator: Operator, keys: _Keys, every: float) -> None:
    from rich.live import Live

    from tranship.cli._top_screen import Screen
    from tranship.operations import History

    screen, history = Screen(str(operator.settings.broker_url)), History()
    screen.see(_look(operator, history))
    console = call.output.out
    due = time.monotonic() + every
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(screen.render(console.height), console=console, screen=True, auto_refresh=False) as live,
    ):
        while (key := keys.next(max(0.0, due - time.monotonic()))) != "q":
            action = screen.press(key) if key else None
            if action is not None:
                _try(screen, partial(_do, call, operator, action))
            if key is None or action is not None:
                _try(screen, partial(_see, screen, operator, history))
                due = time.monotonic() + every
            live.update(screen.render(console.height), refresh=True)


def _try(screen: Screen, work: Callable[[], str | None]) -> None:
    """Do it; what goes wrong is shown, and the next look may be better."""
    try:
        said = work()
    except TranshipError as error:
        said = str(error)
    if said:
        screen.said = said


def _see(screen: Screen, operator: Operator, history: History) -> None:
    screen.see(_look(operator, history))


def _look(operator: Operator, history: History) -> Look:
    from tranship.cli._top_screen import Look
    from tranship.operations import run_times

    workers = operator.workers()
    if any(one.remembers for one in workers):
        # They may keep it in a result store that this command was not told of.
        with contextlib.suppress(UnsupportedError):
            operator.read_history(history)
    return Look(
        queues=operator.queues(),
        workers=workers,
        dead=operator.dead_letters(limit=MOST),
        run_times=run_times(history),
    )


def _do(call: Invocation, operator: Operator, action: Action) -> str:
    """Do what a key asked for, and return what to say of it."""
    if action.verb == "cancel":
        with call.client() as client:
            client.cancel(task_id=action.target)
        return f"task {action.target} is being cancelled"
    if action.verb == "replay":
        return f"replayed {len(operator.replay([action.target]))}"
    if action.verb == "replay-queue":
        return f"replayed {len(operator.replay(queue=action.target))} of {action.target}"
    answers = operator.command(action.verb, {"queue": action.target})
    done = [one.worker for one in answers if one.state.value == "done"]
    return f"{action.verb} {action.target}: {len(done)} of {len(answers)} workers have done it"


class _Keys:
    """Keys as they are pressed, one by one, without Enter. What is typed ahead waits here."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._typed = b""

    def next(self, seconds: float) -> str | None:
        """Return the next key; None: there is none within so many seconds."""
        if not self._typed:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return None
            self._typed = os.read(self._descriptor, 64)
            if not self._typed:
                # The terminal has gone.
                return "q"
        arrow = _ARROWS.get(self._typed[:3])
        size = 1 if arrow is None else 3
        key, self._typed = self._typed[:size], self._typed[size:]
        return arrow or key.decode("latin-1")


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """Get keys one by one as long as this lasts."""
    try:
        import termios
        import tty
    except ImportError:
        raise ConfigurationError("top reads keys as Unix terminals send them, which Windows does not") from None
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
