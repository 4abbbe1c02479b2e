"""AMQP 0-9-1 as RabbitMQ speaks it: bytes, frames, one connection, its channels.

Knows nothing of tasks. One connection is a :class:`~tranship_rabbitmq.amqp.wire.Wire`; it ends once and is never
repaired: who supervises it is :mod:`tranship_rabbitmq._link`.
"""
