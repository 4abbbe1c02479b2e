"""Avtomatika orchestrators as brokers: ``avtomatika+http://:worker-token@host:8080``.

Importing this module imports nothing heavy: it only describes the backend.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the backend."""
    register(
        BackendSpec(
            name="avtomatika",
            schemes=("avtomatika+http", "avtomatika+https"),
            factory="tranship_avtomatika._backend:make_backend",
            summary="an Avtomatika orchestrator: workers take tasks from it, clients submit jobs to it",
            api_version=(2, 0),
        )
    )
