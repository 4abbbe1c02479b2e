"""AMQP 0-9-1 as RabbitMQ speaks it: aiormq's connection, and our own channels on it.

Knows nothing of tasks. A :class:`~tranship_rabbitmq.amqp.connection.Connection` ends once and is never repaired: who
supervises it is :mod:`tranship_rabbitmq._supervisor`.
"""

from tranship_rabbitmq.amqp import versions

versions.check()
