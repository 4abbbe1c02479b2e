"""Ids of tasks that a result store is told of, since nothing else would tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tranship.ports._protocols import ResultStore

__all__ = ["IdKeeper", "KnownId"]


@dataclass(frozen=True, slots=True)
class KnownId:
    """The id of a task that is about to be submitted."""

    id: str
    ready: float = 0.0
    """When it may be taken, in epoch seconds; 0: at once."""
    ttl: float | None = None
    """Seconds for which its result will be kept; None: as the store says."""


@runtime_checkable
class IdKeeper(ResultStore, Protocol):
    """A result store that tells an unknown id from a pending one because it is told of each that is submitted. With
    KNOWS_IDS and its property ``told``.
    """

    async def keep_ids(self, tasks: Sequence[KnownId]) -> Sequence[bool]:
        """Know these ids: PENDING, or SCHEDULED, until there is a result; say of each whether it was not known before
        [result_told_ids_are_known].

        Concurrency: yes. Bound: one or two round trips. Cancelled: known or not; safe to repeat. Retry: never.
        Errors: BrokerUnreachable, StorageFull: some may be known. Closed: ClosedError.
        """

    async def drop_ids(self, ids: Sequence[str]) -> None:
        """Know ids no more: they were not submitted after all; unknown ones are ignored.

        Concurrency: yes. Bound: one round trip. Cancelled: known or not; safe to repeat. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """
