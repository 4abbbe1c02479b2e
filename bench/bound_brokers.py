"""The bounds on RabbitMQ and NATS: the raw clients with bytes as long as tranship's, 256 confirms outstanding."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import address

OUTSTANDING = 256
QUEUE = "bound"
WARM = 200


def aio_pika_many(amount: int, repeats: int, body: int, headers: int):
    """Persistent, mandatory and confirmed messages to a durable queue."""
    import aio_pika

    async def main():
        async with await aio_pika.connect(address.given()) as connection:
            channel = await connection.channel(on_return_raises=True)
            await channel.declare_queue(QUEUE, durable=True)

            async def publish() -> None:
                message = aio_pika.Message(
                    b"x" * body,
                    headers={f"header-{number}": "x" * 16 for number in range(headers)},
                    content_type="application/json",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await channel.default_exchange.publish(message, QUEUE, mandatory=True)

            return await rates(publish, amount, repeats)

    return asyncio.run(main())


def nats_many(amount: int, repeats: int, body: int, headers: int):
    """JetStream publishes with a message id, each with its ack."""
    import nats
    from nats.js.api import StreamConfig

    async def main():
        client = await nats.connect(address.given())
        stream = client.jetstream()
        await stream.add_stream(StreamConfig(name=QUEUE, subjects=[QUEUE], duplicate_window=120.0))
        numbers = iter(range(10**9))

        async def publish() -> None:
            extra = {f"header-{number}": "x" * 16 for number in range(headers)}
            await stream.publish(QUEUE, b"x" * body, headers={**extra, "Nats-Msg-Id": str(next(numbers))})

        try:
            return await rates(publish, amount, repeats)
        finally:
            await client.close()

    return asyncio.run(main())


async def rates(publish: Callable[[], Awaitable[None]], amount: int, repeats: int):
    await many(publish, WARM)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        await many(publish, amount)
        seconds.append(time.perf_counter() - begun)
    return {"rate": amount / statistics.median(seconds), "wanted": WARM + amount * repeats}


async def many(publish: Callable[[], Awaitable[None]], amount: int) -> None:
    """As many at a time as may be outstanding."""
    for start in range(0, amount, OUTSTANDING):
        await asyncio.gather(*(publish() for _ in range(min(OUTSTANDING, amount - start))))
