"""Small records that belong to no task, and locks: what programs that share a broker have to agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from tranship.ports._capabilities import Capability
from tranship.ports._protocols import Backend
from tranship.ports._worker_names import NameHolder

__all__ = ["KeepsRecords", "Record", "Records", "keeps_records", "records_of"]


@dataclass(frozen=True, slots=True)
class Record:
    """A value under a key. Keys are whole characters, at most 1,000 bytes in UTF-8."""

    key: str
    value: bytes
    version: int = 0
    """Which writing of it was read; a number to compare and no more. 0: it is not there."""
    ttl: float | None = None
    """Seconds after which it goes by itself, from when it was written; None: it stays."""


class Records(Protocol):
    """Records by key, each written by one at a time, and locks. With RECORDS."""

    async def read(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """Return the records of ``keys``, in order; None: it is not there [record_write_checks_version].

        Concurrency: yes. Bound: one round trip. Cancelled: nothing happened. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """

    async def page(self, prefix: str, after: str = "", limit: int = 500) -> Sequence[Record]:
        """Return the first ``limit`` records whose keys begin with ``prefix`` and come behind ``after``, by key
        [record_page_in_order].

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`read`.
        """

    async def write(self, record: Record) -> bool:
        """Write a record over that of its version, or one that is not there yet where the version is 0; False: somebody
        else has written or removed it since, and nothing was changed. Of several at once one succeeds
        [record_write_checks_version]. With a ``ttl`` it goes by itself [record_ttl].

        Concurrency: yes. Bound: one round trip. Cancelled: written or not. Retry: never; who does not know reads it.
        Errors: BrokerUnreachable, StorageFull. Closed: ClosedError.
        """

    async def put(self, records: Sequence[Record]) -> None:
        """Write records over whatever is there: those that only one program ever writes [record_put_writes_over].

        Concurrency, Bound, Cancelled, Errors, Closed: as :meth:`write`. Retry: never; safe to repeat.
        """

    async def remove(self, record: Record) -> bool:
        """Remove a record in the version that was read; False: it is another one by now, or gone.

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`write`.
        """

    async def take_lock(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take the lock ``holder.name`` for so long from now, or keep it for as much longer; None: it is the holder's.
        Else who has it, and nothing was changed [lock_has_one_holder]. One whose time is over is free [lock_expires].

        Whoever was held up may think that a lock is still his. What it protects is therefore written by version.

        Concurrency: yes; of several at once, one gets it. Bound: a few round trips. Cancelled: taken or not; safe to
        repeat. Retry: never. Errors: BrokerUnreachable, StorageFull. Closed: ClosedError.
        """

    async def free_lock(self, holder: NameHolder) -> None:
        """Give a lock up at once; one that is somebody else's stays his [lock_has_one_holder].

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`take_lock`.
        """

    async def tell(self, names: Sequence[str]) -> None:
        """Call everybody who listens to one of ``names``, anywhere: what he reads has changed
        [record_told_to_listeners]. Nobody listening means lost, and so may what is told while a connection is away.

        Concurrency: yes. Bound: one round trip. Cancelled: told or not. Retry: never. Errors: BrokerUnreachable.
        Closed: ClosedError.
        """

    async def listen(self, name: str, heard: Callable[[], None]) -> Callable[[], None]:
        """From now on call ``heard``, on this loop, when somebody tells ``name``, and once the connection is back after
        a loss; return what ends it [record_told_to_listeners]. What is told from when this returns on is heard.

        Concurrency: yes. Bound: one round trip. Cancelled: nothing is heard. Retry: never. Errors: BrokerUnreachable.
        Closed: ClosedError.
        """


class KeepsRecords(Backend, Protocol):
    """A backend, or a result store, that keeps records."""

    def records(self) -> Records:
        """The one place of its records. Raises UnsupportedError without RECORDS."""


def keeps_records(backend: Backend) -> TypeGuard[KeepsRecords]:
    """Whether it keeps records: with RECORDS. Nobody asks for its type, which Python 3.11 finds out by reading every
    property, and 3.12 not at all of what stands in for a backend.
    """
    return backend.capabilities.has(Capability.RECORDS)


def records_of(backend: Backend) -> Records | None:
    """Return the records of a backend or a result store; None: it keeps none."""
    return backend.records() if keeps_records(backend) else None
