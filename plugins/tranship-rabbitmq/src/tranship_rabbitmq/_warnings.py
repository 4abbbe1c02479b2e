"""What ``tranship doctor`` says of the server: each with its cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tranship_rabbitmq._options import RabbitOptions

__all__ = ["warnings_of"]


def warnings_of(options: RabbitOptions, blocked: str | None, odd: Mapping[str, str]) -> Sequence[str]:
    """Return what is set in a way that loses or delays work.

    Args:
        options: of the URL.
        blocked: why the server takes no messages; None: it does.
        odd: queues with arguments of their operator's, with the server's words for them.
    """
    return list(_warnings(options, blocked, odd))


def _warnings(options: RabbitOptions, blocked: str | None, odd: Mapping[str, str]) -> Iterator[str]:
    if options.consumer_timeout is not None:
        yield (
            f"a task that runs longer than consumer_timeout ({options.consumer_timeout:g} s, as the URL says; the "
            "server's own value cannot be asked for) is taken back by the server while it still runs: raise "
            "consumer_timeout in rabbitmq.conf and in the URL, or give tasks a run_timeout below it"
        )
    if options.queue_type == "classic":
        yield (
            "classic queues do not count deliveries: tranship counts what comes back by sending it again, to the end "
            "of its queue; set queue_type=quorum for queues without Celery peers that are configured otherwise"
        )
    if blocked is not None:
        yield f"the server takes no messages ({blocked}): free memory or disk, or consume what is queued"
    for name, words in odd.items():
        yield f"queue {name!r} has arguments of its own ({words}): what they drop, tranship does not hear of"
