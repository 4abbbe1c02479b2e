"""A table alone: it keeps results for tasks that some broker runs, and takes no tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from tranship.driver._backend import DriverBackend
from tranship.driver._connection import Connection
from tranship.driver._nouns import Ending, Outgoing, QueueTraits, Slot, TakenBatch
from tranship.errors import TranshipError, UnsupportedError
from tranship.ports import Capability, Level, Settled, Support
from tranship.settings import BackendConfig, CommonOptions

__all__ = ["NoQueue", "result_store"]

_KEPT: Final = frozenset(
    {Capability.RESULTS, Capability.RESULT_PUSH, Capability.RESULT_TTL, Capability.DURABLE, Capability.CROSS_PROCESS}
)


class NoQueue:
    """The queue of a connection that has only a table: it takes nothing and has nothing."""

    traits: QueueTraits = QueueTraits()

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[TranshipError | None]:
        """Refuse each."""
        return [_refusal() for _ in batch]

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:  # noqa: ARG002 - as any queue
        """Refuse."""
        self._refuse()

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:  # noqa: ARG002 - likewise
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise _refusal()


def _refusal() -> UnsupportedError:
    return UnsupportedError("it keeps results and takes no tasks; give it as result_url, beside a broker")


def result_store(
    name: str,
    config: BackendConfig,
    *,
    options: CommonOptions,
    connect: Callable[[], Awaitable[Connection]],
    declared: Mapping[Capability, Support | Level] | None = None,
    **more: Any,
) -> DriverBackend:
    """Return what the factory of a :class:`~tranship.hookspecs.ResultStoreSpec` gives.

    Args:
        name, config, options, connect: as for :class:`DriverBackend`; connections have a :class:`NoQueue` and a table.
        declared: DURABLE and CROSS_PROCESS, where it is so; RECORDS, where its table takes any key.
        more: as for :class:`DriverBackend`.
    """
    none = {capability: Level.NONE for capability in Capability if capability not in _KEPT}
    return DriverBackend(name, config, options=options, connect=connect, declared={**none, **(declared or {})}, **more)
