"""What a backend can do, and how well: native, emulated or not at all."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tranship import codec
from tranship.errors import UnsupportedError

__all__ = ["Capabilities", "Capability", "Level", "Support"]


class Capability(enum.StrEnum):
    """What brokers disagree about. The kit tests each both ways: declared means it behaves."""

    DURABLE = "durable"
    """A submitted task survives the death of every process [submit_durable_before_return]."""
    CROSS_PROCESS = "cross-process"
    """Several processes share the queues."""
    PRIORITY = "priority"
    """Strict order of the four levels [priority_four_levels_order]; property ``strict``: with ``per-broker``, of
    several brokers that are used as one, only at each of them."""
    AGING = "aging"
    """Waiting raises a task's rank, by URL option [priority_no_starvation]."""
    ORDERED = "ordered"
    """First in, first out within a queue and level, without redelivery [fifo_within_priority]; property
    ``redelivered``: ``back`` where what comes again may come last."""
    DELAY = "delay"
    """``schedule`` with a not-before time; property ``resolution`` in seconds [delay_not_early]."""
    DELAY_CANCEL = "delay-cancel"
    """A cancelled task that is not due yet disappears at once [delay_cancelled_before_due]."""
    LEASE = "lease"
    """Leases are renewed and expire; a task of any length runs once [lease_extend_keeps_owner]."""
    DELIVERY_COUNT = "delivery-count"
    """The broker counts deliveries; property ``kind``: exact or at-least [delivery_count_increments]; property
    ``killed``: ``forgets`` where one that is killed may count what it delivered last anew."""
    RETRY_SAFE = "retry-safe"
    """The same message submitted again is recognised [submit_again_is_recognised]; property ``among``: with
    ``checked``, only if it was submitted with ``check_id`` the first time, too: such a backend finds out
    by itself what became of a message whose answer was lost."""
    KEY_WINDOW = "key-window"
    """A dedup key is taken for a window; property ``window``: per-task or fixed [submit_dedup_window]."""
    RESULTS = "results"
    """Results are stored and any process can read them [result_set_get]; property ``content_type``: how the
    documents are to be written, JSON unless given."""
    RESULT_PUSH = "result-push"
    """Results come to who expects them, without polling [result_wait_pushed]; property ``with_submit``: expecting
    the ids of a submit just before it costs no round trip, and misses nothing. Without RESULTS it is the lesser
    thing: results come once, to the process that submitted, through :attr:`Backend.address`, and cannot be read."""
    RESULT_TTL = "result-ttl"
    """Results expire; property ``ttl``: per-result or per-store [result_ttl_expires]."""
    KNOWS_IDS = "knows-ids"
    """An unknown id is told apart from a pending one [result_unknown_id_not_pending]; property ``told``: of the ids
    that the store was told of when their tasks were submitted (option ``knows_ids``) [result_told_ids_are_known]."""
    FUSED_SETTLE = "fused-settle"
    """``Consumer.settle`` stores results and settles in one step [settle_fused_is_atomic]."""
    CONTROL = "control"
    """Tombstones with replay, live commands and heartbeats [cancel_survives_worker_restart]."""
    UNIQUE_NAMES = "unique-names"
    """One worker has a name at a time; another that wants it is refused [worker_name_has_one_holder]."""
    RECORDS = "records"
    """Small records by key that one at a time writes, and locks: what schedulers agree by
    [record_write_checks_version, lock_has_one_holder]."""
    DEAD_LETTERS = "dead-letters"
    """Dead letters can be listed, shown, replayed and purged [dead_list_show_replay_purge]."""
    INSPECT_DEPTH = "inspect-depth"
    INSPECT_IN_FLIGHT = "inspect-in-flight"
    INSPECT_OLDEST = "inspect-oldest"
    BROWSE = "browse"
    """Waiting tasks can be looked at, and removed one by one or all [inspect_waiting_in_order]; property
    ``given_back``: ``hidden`` where what a worker has given back is neither shown nor removed."""


class Level(enum.StrEnum):
    """How a capability comes about."""

    NATIVE = "native"
    EMULATED = "emulated"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Support:
    """How one capability is supported, with its properties (resolution, window, ...)."""

    level: Level
    properties: Mapping[str, Any] = field(default_factory=dict)


class Capabilities(Mapping[Capability, Support]):
    """What a connected backend can do; a capability that is not given is ``none``."""

    __slots__ = ("_supports",)

    def __init__(self, supports: Mapping[Capability, Support | Level]) -> None:
        self._supports = {
            capability: given if isinstance(given := supports.get(capability, Level.NONE), Support) else Support(given)
            for capability in Capability
        }

    def __getitem__(self, capability: Capability) -> Support:
        return self._supports[capability]

    def __iter__(self) -> Iterator[Capability]:
        return iter(self._supports)

    def __len__(self) -> int:
        return len(self._supports)

    def has(self, capability: Capability) -> bool:
        """Whether the capability is there, natively or emulated."""
        return self._supports[capability].level is not Level.NONE

    @property
    def answers(self) -> bool:
        """Whether who submits can get results: because they are stored, or at least pushed to him."""
        return self.has(Capability.RESULTS) or self.has(Capability.RESULT_PUSH)

    def check_keeps_results(self, name: str) -> None:
        """Do nothing, if results are kept.

        Raises:
            UnsupportedError: ``name`` cannot be somebody's result store.
        """
        if not self.has(Capability.RESULTS):
            raise UnsupportedError(
                f"{name} keeps no results and cannot be the result store of another broker: set TRANSHIP_RESULT_URL, "
                "or result_url, to one that does, such as redis://... or sqlite:///..."
            )

    @property
    def told_of_ids(self) -> bool:
        """Whether the result store knows the ids that it is told of, and no others."""
        return bool(self._supports[Capability.KNOWS_IDS].properties.get("told"))

    @property
    def result_type(self) -> str:
        """The content type that documents for this result store are written in."""
        kept = Capability.RESULTS if self.has(Capability.RESULTS) else Capability.RESULT_PUSH
        return str(self._supports[kept].properties.get("content_type", codec.JSON))
