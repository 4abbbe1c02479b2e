"""What an orchestrator is asked for a task, and what it cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tranship import codec
from tranship.envelope import Envelope, Priority
from tranship.errors import UnsupportedError
from tranship.protocol import Message
from tranship_azolla import wire_pb2 as wire
from tranship_azolla._policy import policy_message

__all__ = ["DEFAULT_QUEUE", "FLOW", "task_request"]

DEFAULT_QUEUE: Final = "default"
"""The queue that is no group: the orchestrator then takes the domain's own."""
FLOW: Final = "flow_instance_id"
"""The header that the protocol has a field for."""
_TRACE: Final = frozenset({"traceparent", "tracestate", "baggage"})
"""Headers that are for onlookers: they are left out, because a trace that ends is no reason to refuse a task."""


def task_request(message: Message, domain: str) -> Any:
    """Return the request for ``message``.

    Raises:
        UnsupportedError: it says something that the protocol has no field for, or a policy that it cannot say.
        EncodeError: an argument that JSON cannot hold.
    """
    envelope = message.envelope
    lacks = [*_lacks(message)]
    if lacks:
        raise UnsupportedError(
            f"an Azolla orchestrator cannot be told {_listed(lacks)} of task {envelope.task!r}: its protocol has no "
            "field for that; leave it out, or use another broker",
            task_id=envelope.id,
        )
    args, kwargs = _arguments(envelope)
    return wire.CreateTaskRequest(
        name=envelope.task,
        domain=domain,
        retry_policy=None if envelope.retry is None else policy_message(envelope.retry),
        args=args,
        kwargs=kwargs,
        flow_instance_id=envelope.headers.get(FLOW),
        shepherd_group=None if envelope.queue == DEFAULT_QUEUE else envelope.queue,
    )


def _arguments(envelope: Envelope) -> tuple[str, str]:
    """Return both as JSON. Named ones alone travel as a single object, as Azolla's own clients have it, because workers
    in other languages read nothing else.
    """
    if envelope.kwargs and not envelope.args:
        return codec.dumps([dict(envelope.kwargs)], name="kwargs").decode(), "{}"
    args = codec.dumps(list(envelope.args), name="args")
    return args.decode(), codec.dumps(dict(envelope.kwargs), name="kwargs").decode()


def _lacks(message: Message) -> Iterator[str]:
    envelope = message.envelope
    # Also set when it is tried again, which is no wish of who submits.
    if message.check_id and not message.tries:
        yield "an id of its own (task_id)"
    if envelope.priority is not Priority.NORMAL:
        yield f"the priority {envelope.priority.label!r}"
    for what, said in _SAID.items():
        if getattr(envelope, what):
            yield said
    if envelope.content_type != codec.JSON:
        yield f"arguments as {envelope.content_type} (serializer)"
    if others := sorted(envelope.headers.keys() - _TRACE - {FLOW}):
        yield f"headers, or what follows it ({', '.join(others)})"


_SAID: Final = {
    "deadline": "a deadline",
    "run_timeout": "a run_timeout",
    "cancel_key": "a cancel_key",
    "persistent_output": "persistent_output",
    "not_before": "a delay",
    "dedup_key": "a dedup_key",
    "result_ttl": "a result_ttl",
}
"""Fields of an envelope, and what callers call them."""


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
