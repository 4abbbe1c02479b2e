"""A web page for whoever looks after tasks: ``tranship dashboard``, and an ASGI application to be mounted.

Importing this module imports nothing heavy: it only describes the command.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship.hookspecs import CommandSpec, hookimpl

if TYPE_CHECKING:
    from tranship_dashboard._app import Dashboard

__all__ = ["Dashboard", "tranship_register_commands"]


@hookimpl
def tranship_register_commands(register: Callable[[CommandSpec], None]) -> None:
    """Describe the command."""
    register(
        CommandSpec(
            name="dashboard",
            target="tranship_dashboard._command:app",
            summary="a web page: queues, workers, tasks, workflows, dead letters, schedules",
            api_version=(2, 0),
        )
    )


def __getattr__(name: str) -> Any:
    if name == "Dashboard":
        from tranship_dashboard._app import Dashboard

        return Dashboard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
