"""Commands to workers at work, and their answers: how both travel through a control channel.

Both are live :class:`~tranship.ports.Command` messages, so they need nothing of a broker but that channel. A command
says which call it belongs to; its answers say it as well, and go to everybody who only looks on.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship import codec
from tranship.errors import InvalidArgumentsError, TranshipError
from tranship.ports import ONLOOKER, Command

__all__ = [
    "BUILT_IN",
    "CommandAnswer",
    "CommandCall",
    "CommandState",
    "answer_message",
    "answer_of",
    "call_message",
    "call_of",
]

BUILT_IN: Final = (
    "status",
    "pause",
    "resume",
    "consume",
    "concurrency",
    "rate",
    "run-timeout",
    "log-level",
    "drain",
    "stop",
    "restart",
)
"""Names of the commands that every worker has."""

CALL: Final = "call"
ANSWER: Final = "answer"
LARGEST: Final = 65_536
"""Bytes of JSON for the arguments of a command, and for what is answered."""
LONGEST: Final = 2_000
"""Characters of what an answer says went wrong."""


class CommandState(enum.StrEnum):
    """What became of a command at one worker."""

    DONE = "done"
    """It was obeyed."""
    RUNNING = "running"
    """The worker's own function for it was still running when the time to wait was over."""
    REFUSED = "refused"
    """The worker has such a command, and cannot do what it says; nothing was changed."""
    UNKNOWN = "unknown"
    """The worker has no such command."""
    FAILED = "failed"
    """The worker's own function for it has raised an exception, or returned what cannot be sent."""
    SILENT = "silent"
    """A worker that should be there has not answered in time."""


_STATES: Final = {one.value: one for one in CommandState}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """What one worker has answered."""

    worker: str
    """Its name."""
    state: CommandState
    value: Any = None
    """What it says; of a worker's own command, what its function returned."""
    error: str = ""
    """Why it was not done; empty: it was."""
    instance: str = ""
    """What tells two workers of one name apart; empty: the worker has not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCall:
    """A command as a worker hears it."""

    id: str
    """Something random, which the answers repeat."""
    name: str
    arguments: Mapping[str, Any]


def call_message(call: CommandCall, workers: Sequence[str] | None) -> Command:
    """Return ``call`` as it is sent to ``workers``; None: to all.

    Raises:
        InvalidArgumentsError: the arguments are too large.
        EncodeError: they cannot be written as JSON.
    """
    text = codec.dumps(dict(call.arguments), name="arguments")
    if len(text) > LARGEST:
        raise InvalidArgumentsError(
            f"the arguments of command {call.name!r} are {len(text):,} bytes as JSON; expected at most {LARGEST:,}: "
            "submit a task for what is larger"
        )
    return Command(
        name=CALL,
        arguments={"id": call.id, "command": call.name, "arguments": text.decode()},
        destination=None if workers is None else list(workers),
    )


def call_of(command: Command) -> CommandCall | None:
    """Return the call that was sent as ``command``; None: it is none."""
    said = command.arguments
    match said.get("id"), said.get("command"), said.get("arguments"):
        case str(call_id), str(name), str(text) if command.name == CALL and len(text) <= LARGEST:
            arguments = _read(text)
            if isinstance(arguments, dict) and all(isinstance(one, str) for one in arguments):
                return CommandCall(id=call_id, name=name, arguments=arguments)
    return None


def answer_message(call_id: str, answer: CommandAnswer) -> Command:
    """Return ``answer`` as it is sent. A value that cannot be sent makes it a failure that says so."""
    text = b"null"
    try:
        text = codec.dumps(answer.value, name="the answer")
        error = f"the answer is {len(text):,} bytes as JSON; expected at most {LARGEST:,}"
    except TranshipError as refused:
        error = str(refused)
    if answer.value is None or (text != b"null" and len(text) <= LARGEST):
        state, error = answer.state, answer.error
    else:
        state, text = CommandState.FAILED, b"null"
    arguments = {
        "id": call_id,
        "worker": answer.worker,
        "instance": answer.instance,
        "state": state.value,
        "value": text.decode(),
        "error": error[:LONGEST],
    }
    return Command(name=ANSWER, arguments=arguments, destination=[ONLOOKER])


def answer_of(command: Command) -> tuple[str, CommandAnswer] | None:
    """Return the answer that was sent as ``command``, with the id of its call; None: it is none."""
    said = command.arguments
    match [said.get(name) for name in ("id", "worker", "instance", "state", "value", "error")]:
        case [str(call_id), str(worker), str(instance), str(state), str(text), str(error)] if command.name == ANSWER:
            if (known := _STATES.get(state)) is not None:
                answer = CommandAnswer(worker=worker, instance=instance, state=known, value=_read(text), error=error)
                return call_id, answer
    return None


def _read(text: str) -> Any:
    try:
        return codec.loads(text, codec.JSON)
    except TranshipError:
        return None
