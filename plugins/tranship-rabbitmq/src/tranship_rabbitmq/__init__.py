"""RabbitMQ as a broker for tranship, on the same queues as Celery workers and clients.

Importing this module imports nothing heavy: it only describes the backend.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the RabbitMQ backend."""
    register(
        BackendSpec(
            name="rabbitmq",
            schemes=("amqp", "amqps"),
            factory="tranship_rabbitmq._backend:make_backend",
            summary="RabbitMQ; Celery workers and clients on the same queues are peers",
            api_version=(2, 0),
        )
    )
