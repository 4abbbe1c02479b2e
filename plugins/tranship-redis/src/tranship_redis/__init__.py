"""Redis and Valkey as a broker for tranship, on the same queues as Celery workers and clients.

Importing this module imports no Redis library: it only describes the backend.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the Redis backend."""
    register(
        BackendSpec(
            name="redis",
            schemes=("redis", "rediss", "unix", "valkey", "valkeys"),
            factory="tranship_redis._backend:make_backend",
            summary="Redis or Valkey; Celery workers and clients on the same queues are peers",
            requirement="redis[hiredis]>=6",
            api_version=(2, 0),
        )
    )
