"""The backend: what the driver kit makes of an orchestrator, with ends of tasks and a control channel of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from tranship.driver import DriverBackend, Kit, OwnPorts, Timing, instead
from tranship.errors import InvalidURLError, TranshipError
from tranship.ports import Capability, Consumer, Level, Settled, Settlement, Support, Verdict
from tranship.settings import BackendConfig
from tranship_avtomatika._answers import answer_of
from tranship_avtomatika._connection import AvtomatikaConnection
from tranship_avtomatika._control import AvtomatikaControl
from tranship_avtomatika._options import AvtomatikaOptions
from tranship_avtomatika._tasks import Held

__all__ = ["make_backend"]

DECLARED: Final[Mapping[Capability, Support | Level]] = {
    Capability.CROSS_PROCESS: Level.NATIVE,
    # Also of one that is away, beside others: a router asks before it is there.
    Capability.RESULT_PUSH: Support(Level.EMULATED, {"to": "submitter"}),
    Capability.FUSED_SETTLE: Level.NATIVE,
    Capability.CONTROL: Support(Level.NATIVE, {"cancels": "jobs of the same process", "commands": "none"}),
}
CLOSING: Final = 15.0
"""Seconds for saying goodbye: what is held is given back, each with an answer."""


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of an orchestrator; the registry calls this."""
    options, url = config.options_as(AvtomatikaOptions), config.url
    if url.more_hosts:
        raise InvalidURLError(
            f"{url} names several hosts; an orchestrator is one: put several URLs in a row, separated by white space"
        )

    async def connect() -> AvtomatikaConnection:
        return await AvtomatikaConnection.open(url, options)

    return DriverBackend(
        "avtomatika",
        config,
        options=options,
        connect=connect,
        declared=DECLARED,
        own=OwnPorts(consumer=_consumer, control=_control),
        timing=Timing(connect=options.connect_timeout + options.command_timeout, command=None, close=CLOSING),
    )


def _control(kit: Kit) -> AvtomatikaControl:
    return AvtomatikaControl(lambda: cast("AvtomatikaConnection", kit.connection))


def _consumer(kit: Kit, queues: Sequence[str]) -> Consumer:
    """Return the kit's consumer, with ends that tell the orchestrator how tasks have ended."""
    consumer = kit.consumer(queues)

    async def settle(settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        return await consumer.settle([_bare(one) for one in settlements])

    return instead(consumer, settle=settle)


def _bare(settlement: Settlement) -> Settlement:
    """Note with the task how it has ended; what is left is whether it has."""
    held: Held = settlement.delivery.token
    if settlement.verdict is Verdict.NACK or settlement.problem is not None:
        return settlement
    if settlement.replacement is not None:
        replacement = settlement.replacement
        held.following = replacement.raw(), replacement.envelope.not_before or 0.0
    else:
        held.answer = answer_of(settlement)
    return Settlement(settlement.delivery, Verdict.ACK)
