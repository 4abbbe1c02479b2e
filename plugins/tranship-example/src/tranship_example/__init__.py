"""An example of a backend: tasks as files in a directory.

Importing this module imports nothing heavy: it only describes the backend.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the example's backend."""
    register(
        BackendSpec(
            name="example",
            schemes=("example",),
            factory="tranship_example._backend:make_backend",
            summary="files in a directory; an example of a plugin",
            api_version=(2, 0),
        )
    )
