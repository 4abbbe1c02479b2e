"""Jupyter: tasks that are watched in a notebook, with their state, progress, and result or error.

::

    handles = await client.submit_many(thumbnail.call(photo) for photo in photos)
    results = await watch(handles)

It needs IPython, which every kernel for Python has, and nothing else: what is shown is HTML that is shown anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final, TypeVar, overload

from IPython.core.getipython import get_ipython
from IPython.display import display

from tranship.checks import Duration, invalid
from tranship.client import AsyncClient, AsyncTaskHandle
from tranship.display import visible, visible_lines
from tranship.envelope import TaskResult, TaskState, WorkflowResult
from tranship.errors import InvalidOptionError, TranshipError
from tranship.sync import Client, TaskHandle

__all__ = ["watch"]

R = TypeVar("R")

LOOKS_EVERY: Final = 0.25
"""Seconds."""
LAST_LOOKS: Final = 4
"""A workflow's last step may end before it is stored how one before it did."""
JOINS_WITHIN: Final = 2.0
"""Seconds."""
ROWS: Final = 20
"""Handles that are shown one by one; of more, those that have not ended come first."""
_SHOWN: Final = 300
"""Characters of a value, or of a message."""
_display: Any = display  # it has no types
_COLORS: Final = {
    TaskState.SUCCESS: "success",
    TaskState.STARTED: "brand",
    TaskState.RETRY: "warn",
    TaskState.FAILURE: "error",
    TaskState.DEAD_LETTERED: "error",
    TaskState.EXPIRED: "error",
}


@overload
def watch(handles: AsyncTaskHandle[R], *, timeout: Duration | None = None) -> Coroutine[Any, Any, TaskResult[R]]: ...
@overload
def watch(
    handles: Iterable[AsyncTaskHandle[R]], *, timeout: Duration | None = None
) -> Coroutine[Any, Any, list[TaskResult[R]]]: ...
@overload
def watch(handles: TaskHandle[R], *, timeout: Duration | None = None) -> TaskResult[R]: ...
@overload
def watch(handles: Iterable[TaskHandle[R]], *, timeout: Duration | None = None) -> list[TaskResult[R]]: ...


def watch(handles: Any, *, timeout: Duration | None = None) -> Any:
    """Show tasks below the cell while they are waited for, and return how they ended.

    Handles of an :class:`~tranship.AsyncClient` are awaited, ``await watch(handles)``; those of a
    :class:`~tranship.Client` are waited for without ``await``. A workflow is shown with its steps. A task that fails
    does not raise: its error is shown, and is in its result. Interrupting the cell ends the watching, and no task.
    Outside of a kernel, in a terminal, only the end is printed.

    Args:
        handles: one handle, or several of one client.
        timeout: seconds, or a timedelta, for all of them together; None: as long as it takes. A task that has not
            ended by then has a result whose ``unwrap()`` raises ResultTimeout.

    Returns:
        The result of the one handle, or a list of results in the order of the handles.

    Raises:
        InvalidOptionError: no handles, or of several clients.
        ResultsDisabled, BrokerUnreachable: as :meth:`~tranship.AsyncClient.collect`.
    """
    alone = isinstance(handles, (AsyncTaskHandle, TaskHandle))
    watched = _several([handles] if alone else handles)
    client = watched[0]._client  # noqa: SLF001 - a handle is half of its client
    view = _View(watched)
    if isinstance(client, AsyncClient):
        return _await_all(client, view, timeout, alone=alone)
    results = _wait_for_all(client, view, timeout)
    return results[0] if alone else results


def _several(handles: Any) -> Sequence[Any]:
    if isinstance(handles, str) or not isinstance(handles, Iterable):
        raise _no_handle("handles", handles)
    several = list(handles)
    for one in several:
        if not isinstance(one, (AsyncTaskHandle, TaskHandle)):
            raise _no_handle("one of the handles", one)
    if len({one._client for one in several}) != 1:  # noqa: SLF001
        what = "those of several clients" if several else several
        raise invalid("handles", what, "at least one handle, and all from one client")
    return several


def _no_handle(name: str, what: Any) -> InvalidOptionError:
    hint = "; `await` it first" if asyncio.iscoroutine(what) else ""
    return invalid(name, what, f"what submit and submit_many return, or client.handle(id){hint}")


async def _await_all(client: AsyncClient, view: _View, timeout: Duration | None, *, alone: bool) -> Any:
    with view.live():
        looking = asyncio.create_task(_keep_looking(view))
        try:
            results = await client.collect(view.handles, timeout)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        for _ in range(LAST_LOOKS):
            await _look(view)
            if not view.lacks_steps():
                break
            await asyncio.sleep(LOOKS_EVERY)
    return results[0] if alone else results


async def _keep_looking(view: _View) -> None:
    while True:
        await _look(view)
        view.draw()
        await asyncio.sleep(LOOKS_EVERY)


async def _look(view: _View) -> None:
    # What was known stays when the broker is away for a moment: whoever waits for the results is told.
    with contextlib.suppress(TranshipError):
        for handle in view.unknown():
            view.note(handle, await handle.info())


def _wait_for_all(client: Client, view: _View, timeout: Duration | None) -> list[TaskResult]:
    with view.live():
        with _looking(view):
            results = client.collect(view.handles, timeout)
        for _ in range(LAST_LOOKS):
            _look_blocking(view)
            if not view.lacks_steps():
                break
            time.sleep(LOOKS_EVERY)
    return results


@contextlib.contextmanager
def _looking(view: _View) -> Iterator[None]:
    """Look on in a thread of its own, as the caller's waits."""
    ended = threading.Event()

    def look() -> None:
        while True:
            _look_blocking(view)
            view.draw()
            if ended.wait(LOOKS_EVERY):
                return

    thread = threading.Thread(target=look, name="tranship-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Not for ever, where the broker does not answer and the cell was interrupted.
        thread.join(JOINS_WITHIN)


def _look_blocking(view: _View) -> None:
    with contextlib.suppress(TranshipError):
        for handle in view.unknown():
            view.note(handle, handle.info())


class _View:
    """What is shown below the cell.

    Args:
        handles: what is watched.
    """

    def __init__(self, handles: Sequence[Any]) -> None:
        self.handles = handles
        self._known: dict[str, TaskResult] = {}
        self._began = time.monotonic()
        self._shown: Any = None
        self._last = ""
        self._watching = True

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show it until the end of the block, and how it was left."""
        kernel = hasattr(get_ipython(), "kernel")
        if kernel:
            self._shown = _display(self._bundle(), raw=True, display_id=True)
        try:
            yield
        finally:
            self._watching = False
            self.draw()
            if not kernel:
                print(self._text())  # noqa: T201 - this is where it is shown

    def draw(self) -> None:
        """Show it anew, if it has changed."""
        if self._shown is not None and (bundle := self._bundle())["text/html"] != self._last:
            self._last = bundle["text/html"]
            self._shown.update(bundle, raw=True)

    def unknown(self) -> list[Any]:
        """The handles that are shown, and not known to have ended, with all their steps."""
        return [one for one in self._rows() if not self._of(one).state.terminal or self._lacks_steps(one)]

    def lacks_steps(self) -> bool:
        """Whether a workflow that has ended is shown with steps of which that is not known."""
        return any(one.final is not None and self._lacks_steps(one) for one in self._rows())

    def note(self, handle: Any, found: TaskResult) -> None:
        """Keep what was read of it."""
        self._known[handle.id] = found

    def _of(self, handle: Any) -> TaskResult:
        known = self._known.get(handle.id)
        if known is None or (handle.final is not None and not known.state.terminal):
            return handle.final or known or TaskResult(id=handle.id, state=TaskState.PENDING)
        return known

    def _lacks_steps(self, handle: Any) -> bool:
        known = self._known.get(handle.id)
        if not handle.children:
            return False
        return not (isinstance(known, WorkflowResult) and all(step.state.terminal for step in known.steps))

    def _rows(self) -> Sequence[Any]:
        if len(self.handles) <= ROWS:
            return self.handles
        bad: list[Any] = []
        going: list[Any] = []
        good: list[Any] = []
        for one in self.handles:
            state = self._of(one).state
            (good if state is TaskState.SUCCESS else bad if state.terminal else going).append(one)
        return [*bad[: ROWS // 2], *going, *good, *bad[ROWS // 2 :]][:ROWS]

    def _bundle(self) -> dict[str, str]:
        return {"text/html": self._html(), "text/plain": self._text()}

    def _summary(self) -> str:
        """All of them in one line."""
        states = Counter(self._of(one).state for one in self.handles)
        ended = sum(count for state, count in states.items() if state.terminal)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        seconds = f"{time.monotonic() - self._began:.{0 if self._watching else 1}f} s"
        left = "" if self._watching or ended == len(self.handles) else "; no longer watched"
        return f"{ended} of {len(self.handles)} ended ({counts}), {seconds}{left}"

    def _lines(self) -> Iterator[tuple[str, TaskResult]]:
        """What each row is about, and what is known of it; a workflow's steps follow it."""
        for handle in self._rows():
            known = self._of(handle)
            task = handle._task  # noqa: SLF001
            yield f"{task.name if task else 'workflow' if handle.children else 'task'} ...{handle.id[-8:]}", known
            for step in known.steps if isinstance(known, WorkflowResult) else ():
                yield f"\u2514 {step.task}", step

    def _text(self) -> str:
        rows = [(visible(name), known.state, _share(known), _told(known)) for name, known in self._lines()]
        return "\n".join([self._summary(), *(" ".join(filter(None, row)) for row in rows), *self._more()])

    def _more(self) -> list[str]:
        hidden = len(self.handles) - ROWS
        return [f"... and {hidden} more"] if hidden > 0 else []

    def _html(self) -> str:
        ended = sum(self._of(one).state.terminal for one in self.handles)
        rows = "".join(_row(name, known) for name, known in self._lines())
        more = "".join(f"<div>{one}</div>" for one in self._more())
        return (
            f"<div><progress value='{ended}' max='{len(self.handles)}' aria-label='tasks that have ended'></progress> "
            f"{escape(self._summary())}</div><table>{rows}</table>{more}"
        )


def _row(name: str, known: TaskResult) -> str:
    color = f"color: var(--jp-{_COLORS.get(known.state, 'ui-font')}-color1)"
    done = known.progress.share if known.progress else None
    bar = "" if done is None else f"<progress value='{done:.3f}' aria-label='progress'></progress> "
    return (
        f"<tr><td style='text-align: left'>{escape(visible(name))}</td><td style='text-align: left; {color}'>"
        f"<b>{known.state}</b></td><td style='text-align: left'>{bar}{escape(_share(known))}</td>"
        f"<td style='text-align: left'>{escape(_told(known))}{_traceback(known)}</td></tr>"
    )


def _share(known: TaskResult) -> str:
    """How far it is."""
    progress = known.progress
    if progress is None or known.state.terminal:
        return ""
    return f"{progress.done:g}" if progress.share is None else f"{progress.share:.0%}"


def _told(known: TaskResult) -> str:
    """What it says: its value, its error, or how far it is."""
    if known.error is not None:
        text = f"{known.error.error_type or known.error.code}: {known.error.message}"
    elif known.success:
        text = repr(known.value) if known.status is None else f"{known.status}: {known.value!r}"
    else:
        text = known.progress.message if known.progress else ""
    text = visible(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _traceback(known: TaskResult) -> str:
    if known.error is None or not known.error.traceback:
        return ""
    return f"<details><summary>traceback</summary><pre>{escape(visible_lines(known.error.traceback))}</pre></details>"
