"""What a worker hears: live tombstones, then what comes, again after every lost connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tranship import codec
from tranship.errors import MalformedMessage, TranshipError
from tranship.ports import Command, Signal, SignalSink, Tombstone
from tranship.protocol import number_of
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq._mailbox import RabbitMailbox, declare_mailbox, mailbox_exchange
from tranship_rabbitmq._streams import Entry
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.ends import ChannelEnded
from tranship_rabbitmq.amqp.methods import Method

__all__ = ["Feed", "signals_exchange"]

log = logging.getLogger("tranship.rabbitmq")

Keep = Callable[[Sequence[Tombstone]], Awaitable[object]]


async def signals_exchange(ctx: Context) -> str:
    """Have the exchange that commands go through, and return its name.

    Raises:
        BrokerUnreachable, BrokerRefused.
    """
    name = ctx.names.own("signals")
    declaration: tuple[Any, ...] = (0, name, "fanout", False, True, False, False, False, {})
    await ctx.topology.call(f"declaring {name!r}", "exchange.declare", *declaration)
    return name


class Feed:
    """One listener: a sink, and where it hears from.

    Args:
        ctx: of the backend.
        sink: gets the signals, on the loop.
        worker: the listener's name.
        keep: stores what Celery has revoked.
    """

    def __init__(self, ctx: Context, sink: SignalSink, worker: str, keep: Keep) -> None:
        self._ctx = ctx
        self._sink: SignalSink | None = sink
        self._worker = worker
        self._early: list[Signal] | None = []
        """What came while the replay was under way; None: nothing has to wait."""
        self._live: dict[str, float] = {}
        self._unlisten: Callable[[], None] = lambda: None
        self._mailbox: RabbitMailbox | None = None
        if ctx.options.celery == "on":
            self._mailbox = RabbitMailbox(ctx, worker, hear=self.hear, keep=keep, cancelled=self._known)

    async def start(self) -> None:
        """Subscribe, and hand over every live tombstone.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        self._unlisten = self._ctx.journal.listen(self._entered)
        await self._subscribe()
        await self._ctx.journal.sync()
        early, self._early = self._early, None
        if early:
            self.hear(early)

    async def again(self) -> None:
        """Subscribe again; the journal replays by itself.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        if self._sink is not None:
            await self._subscribe()

    def hear(self, signals: Sequence[Signal]) -> None:
        """Hand ``signals`` over, behind the replay."""
        if self._early is not None:
            self._early += signals
        elif self._sink is not None and signals and not self._ctx.gate.closed:
            try:
                self._sink(signals)
            except Exception:
                # In a callback of the connection it would end it.
                log.exception("a listener failed to take %d signals", len(signals))

    async def aclose(self) -> None:
        """Say nothing any more."""
        self._sink = None
        unlisten, self._unlisten = self._unlisten, lambda: None
        unlisten()
        if self._mailbox is not None:
            await self._mailbox.aclose()

    def _entered(self, entry: Entry) -> None:
        tombstones = _tombstones(entry.get("tombstones"))
        self._live |= {one.value: one.expires for one in tombstones if one.kind == "id"}
        self.hear(tombstones)

    def _known(self) -> list[str]:
        now = time.time()
        self._live = {value: expires for value, expires in self._live.items() if expires > now}
        return sorted(self._live, key=self._live.__getitem__)

    async def _subscribe(self) -> None:
        await self._consume(await signals_exchange(self._ctx), "", {}, self._commanded)
        if self._mailbox is not None:
            await declare_mailbox(self._ctx)
            expiry = {"x-expires": 10_000, "x-message-ttl": 300_000}
            try:
                await self._consume(mailbox_exchange(self._ctx), self._mailbox.queue, expiry, self._mailbox.heard)
            except TranshipError as error:
                if not self._ctx.consuming.up:
                    raise
                log.warning("Celery's remote control is not followed as %s: %s", self._mailbox.node, error)

    async def _consume(
        self, exchange: str, queue: str, arguments: dict[str, Any], heard: Callable[[Arrived], None]
    ) -> None:
        """Read what is broadcast through ``exchange`` from a queue that goes with the connection."""
        consuming, doing = self._ctx.consuming, f"listening to {exchange!r}"
        channel = await consuming.channel()
        try:
            # Exclusive and auto-deleted, as Celery declares its own.
            declaration = (0, queue, False, False, True, True, False, arguments)
            reply = await consuming.call(channel, doing, "queue.declare", *declaration)
            assert isinstance(reply, Method)
            name = reply.arguments[0]
            await consuming.call(channel, doing, "queue.bind", 0, name, exchange, "", False, {})
            channel.consumers["signals"] = heard
            await consuming.call(channel, doing, "basic.consume", 0, name, "signals", False, True, False, False, {})
        except ChannelEnded as why:
            raise error_of(why, doing=doing) from why

    def _commanded(self, arrived: Arrived) -> None:
        try:
            command = _command(codec.loads(arrived.body, codec.JSON))
        except (MalformedMessage, TypeError) as error:
            log.warning("ignoring what is no command of tranship's (%d bytes): %s", len(arrived.body), error)
            return
        if command.destination is None or self._worker in command.destination:
            self.hear([command])


def _command(found: Any) -> Command:
    command = Command(**found)
    if not isinstance(command.name, str) or not isinstance(command.arguments, dict):
        raise TypeError("it has no name, or no arguments")
    return command


def _tombstones(found: Any) -> list[Tombstone]:
    """Return the live tombstones of an entry."""
    now = time.time()
    try:
        tombstones = [
            Tombstone(kind=str(kind), value=str(value), expires=number_of(expires) or 0.0, running=bool(running))
            for kind, value, expires, running in found or ()
        ]
    except (TypeError, ValueError):
        return []
    return [one for one in tombstones if one.expires > now]
