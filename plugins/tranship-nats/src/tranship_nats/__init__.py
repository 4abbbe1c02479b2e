"""NATS JetStream as a broker for tranship: one server or a cluster.

Importing this module imports no NATS library: it only describes the backend.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the NATS backend."""
    register(
        BackendSpec(
            name="nats",
            schemes=("nats", "tls"),
            factory="tranship_nats._backend:make_backend",
            summary="NATS JetStream, one server or a cluster",
            requirement="nats-py[nkeys]>=2.10,<3",
            api_version=(2, 0),
        )
    )
