"""Embedded backends: memory and SQLite. They enter through the same hook as everybody's plugins."""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the backends that need no server, and the one that is made of others."""
    register(
        BackendSpec(
            name="memory",
            schemes=("memory",),
            factory="tranship.backends.memory:make_backend",
            summary="inside of one process; for tests and scripts",
        )
    )
    register(
        BackendSpec(
            name="sqlite",
            schemes=("sqlite",),
            factory="tranship.backends.sqlite:make_backend",
            summary="one file, shared by the processes of one machine",
        )
    )
    register(
        BackendSpec(
            name="routing",
            schemes=("failover", "round-robin"),
            factory="tranship.routing:RoutedBackend",
            summary="several brokers as one",
        )
    )
