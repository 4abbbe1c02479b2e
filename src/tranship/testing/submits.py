"""What was submitted to a broker in memory: recorded where it arrives, whoever submits it and in whatever way.

::

    with record_submits("memory://orders") as submits:
        place_order("A1")                                  # the code under test, with a client of its own
    submits.assert_submitted(charge, "A1")
    submits.assert_not_submitted(refund)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, overload

from tranship.backends.memory import MemoryBroker, MemoryOptions, broker_of
from tranship.connections import process_table
from tranship.driver import Outgoing
from tranship.envelope import Envelope
from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.protocol import Message
from tranship.settings import BrokerURL
from tranship.task import FunctionArguments, ModelArguments, Task

__all__ = ["Submits", "record_submits"]


class Submits(Sequence[Envelope]):
    """The envelopes of the tasks that were submitted, in their order. Made by :func:`record_submits`; any thread.

    A retry is no submit; what a task submits while it runs is, and so is what a schedule or a workflow sends.
    """

    def __init__(self) -> None:
        self._found: list[Envelope] = []

    @overload
    def __getitem__(self, index: int, /) -> Envelope: ...
    @overload
    def __getitem__(self, index: slice, /) -> Sequence[Envelope]: ...
    def __getitem__(self, index: int | slice, /) -> Envelope | Sequence[Envelope]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<Submits {[one.task for one in self._found]}>"

    def of(self, task: Task[..., Any] | str) -> list[Envelope]:
        """Return those of one task, by the task or by its name."""
        name = task if isinstance(task, str) else task.name
        return [one for one in self._found if one.task == name]

    def assert_submitted(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Envelope:
        """Insist that ``task`` was submitted with just these arguments, once; return the envelope, to look at more.

        It makes no difference whether an argument is given by position, by name, or left to its default.

        Raises:
            AssertionError: it was not, or more than once; what was submitted is shown.
            InvalidArgumentsError: ``task`` does not take such arguments.
        """
        __tracebackhide__ = True
        found = self._matching(task, args, kwargs)
        if len(found) != 1:
            times = "not" if not found else f"{len(found)} times"
            raise AssertionError(f"{_shown(task, *_sent(task, args, kwargs))} was {times} submitted; {self._all(task)}")
        return found[0]

    def assert_not_submitted(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Insist that ``task`` was not submitted with these arguments; with none given, that it was not at all.

        Raises:
            AssertionError: it was.
        """
        __tracebackhide__ = True
        found = self._matching(task, args, kwargs) if args or kwargs else self.of(task)
        if found:
            raise AssertionError(f"{_shown(task, found[0].args, found[0].kwargs)} was submitted; {self._all(task)}")

    def clear(self) -> None:
        """Forget what was submitted until now."""
        self._found.clear()

    def note(self, message: Outgoing) -> None:
        """Note what arrives."""
        if isinstance(message.source, Message):
            self._found.append(message.source.envelope)

    def _matching(self, task: Task[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Envelope]:
        wanted = _by_name(task, *_sent(task, args, kwargs))
        return [one for one in self.of(task) if _by_name(task, one.args, one.kwargs) == wanted]

    def _all(self, task: Task[..., Any]) -> str:
        of_task = [_shown(task, one.args, one.kwargs) for one in self.of(task)]
        others = sorted({one.task for one in self._found} - {task.name})
        return f"submitted were {', '.join([*of_task, *others]) or 'no tasks'}"


@contextlib.contextmanager
def record_submits(url: str, *, namespace: str | None = None) -> Iterator[Submits]:
    """Record what is submitted to ``url``, a broker in memory, from now on until the end of the ``with``.

    Raises:
        ConfigurationError: it is another broker, or somebody records there already.
    """
    place = BrokerURL.parse(url)
    if place.scheme != "memory":
        raise ConfigurationError(f"submits are recorded at a broker in memory (memory://name), not at {place}")
    broker: MemoryBroker = broker_of(place, process_table().shared)
    space = broker.space(namespace if namespace is not None else place.options_as(MemoryOptions).namespace)
    submits = Submits()
    with broker.guard:
        if space.submitted is not None:
            raise ConfigurationError(f"what is submitted to {place} is being recorded already")
        space.submitted = submits.note
    try:
        yield submits
    finally:
        with broker.guard:
            space.submitted = None


def _sent(task: Task[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Any]:
    call = task.call(*args, **kwargs)
    return call.args, call.kwargs


def _by_name(task: Task[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
    """Return arguments as they are told apart: by name as far as names are known."""
    arguments = task.arguments
    if isinstance(arguments, ModelArguments):
        return {**dict(zip(arguments.fields, args, strict=False)), **kwargs}
    if not isinstance(arguments, FunctionArguments):
        return list(args), dict(kwargs)
    try:
        bound = arguments.signature.bind(*args, **kwargs)
    except TypeError as error:
        # Submitted by name, and never checked.
        raise InvalidArgumentsError(f"{_shown(task, args, kwargs)} was submitted: {error}") from None
    bound.apply_defaults()
    return bound.arguments


def _shown(task: Task[..., Any], args: Sequence[Any], kwargs: Any) -> str:
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task.name}({', '.join(given)})"
