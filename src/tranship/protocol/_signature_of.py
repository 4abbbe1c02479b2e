"""The signature of a task that will be sent by whoever runs the one before it."""

from __future__ import annotations

from typing import Any, Final

from tranship import codec
from tranship.envelope import Envelope
from tranship.errors import InvalidOptionError
from tranship.protocol._carried import user_headers
from tranship.protocol._headers import iso, own_headers
from tranship.protocol._signature import Signature

__all__ = ["signature_of"]

_SERIALIZERS: Final = {codec.JSON: "json", codec.MSGPACK: "msgpack"}


def signature_of(
    envelope: Envelope,
    *,
    immutable: bool = False,
    has_id: bool = True,
    countdown: float | None = None,
    expires: float | None = None,
    number: int | None = None,
    exact: bool = False,
) -> Signature:
    """Return the signature that ``envelope`` is written as in the message of another task, as Celery does.

    What Celery has no option for travels in its ``headers`` option, which whoever sends the task adds to the message.

    Args:
        envelope: the task. Whoever sends it decides about its parent.
        immutable: whether it takes no result of what ran before.
        has_id: whether it keeps the envelope's id; else it gets one when it is sent.
        countdown: seconds from then until it may start, instead of ``not_before``.
        expires: seconds from then until it has to have ended, instead of ``deadline``.
        number: its level as Celery's programs number it on that broker; None: they do not, or need not know it.
        exact: level and serializer are written also where they are the usual ones: what is sent takes them over from
            the task before, unless they are given.

    Raises:
        InvalidOptionError: an option that Celery cannot carry to a later step.
    """
    options: dict[str, Any] = {"queue": envelope.queue}
    given = {
        "countdown": countdown,
        "eta": iso(envelope.not_before, "not_before"),
        "expires": iso(envelope.deadline, "deadline") if expires is None else expires,
        "time_limit": envelope.run_timeout,
        "priority": number,
        "ignore_result": None if envelope.store_result is None else not envelope.store_result,
        "serializer": _serializer(envelope, exact=exact),
        "headers": _headers(envelope, exact=exact) or None,
        "task_id": envelope.id if has_id else None,
        "reply_to": envelope.reply_to,
    }
    options.update((name, value) for name, value in given.items() if value is not None)
    return Signature(
        task=envelope.task,
        args=tuple(envelope.args),
        kwargs=dict(envelope.kwargs),
        options=options,
        immutable=immutable,
    )


def _serializer(envelope: Envelope, *, exact: bool) -> str | None:
    if envelope.content_type == codec.JSON and not exact:
        return None
    name = _SERIALIZERS.get(envelope.content_type)
    if name is None:
        raise InvalidOptionError(
            f"serializer is {envelope.content_type!r} for {envelope.task}; expected json or msgpack: a later step of a "
            "workflow is sent by any worker, which may have no other codec",
            task_id=envelope.id,
        )
    return name


def _headers(envelope: Envelope, *, exact: bool) -> dict[str, Any]:
    headers = {**user_headers(envelope), **own_headers(envelope)}
    if exact:
        headers["tranship-priority"] = envelope.priority.label
    return headers
