"""Azolla for tranship: its orchestrators and shepherds by URL, and the command ``azolla-worker``.

Importing this module imports no gRPC: it only describes the backends. It is a distribution of its own, so that Azolla's
can have the command's name elsewhere.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["main", "tranship_register_backends"]

REQUIREMENT = "tranship-azolla[grpc]"


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the orchestrator, which takes tasks, and the shepherd, which is told how one ended."""
    register(
        BackendSpec(
            name="azolla",
            schemes=("azolla",),
            factory="tranship_azolla._backend:make_orchestrator",
            summary="an Azolla orchestrator, over gRPC: submit and wait; its shepherds run the tasks",
            requirement=REQUIREMENT,
            api_version=(2, 0),
        )
    )
    register(
        BackendSpec(
            name="azolla-shepherd",
            schemes=("azolla+shepherd",),
            factory="tranship_azolla._backend:make_shepherd",
            summary="an Azolla shepherd, over gRPC: it is told how the one task ended that it started a process for",
            requirement=REQUIREMENT,
            api_version=(2, 0),
        )
    )


def main() -> None:
    """Run the command ``azolla-worker``."""
    from tranship.compat.azolla.cli import worker_main_sync

    worker_main_sync()
