"""Every transport of kombu as a broker for tranship.

Importing this module imports neither kombu nor SQLAlchemy: it only describes what there is.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, hookimpl
from tranship_kombu._schemes import PREFIXED, SHARED

__all__ = ["tranship_register_backends"]


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    """Describe the bridge to kombu."""
    register(
        BackendSpec(
            name="kombu",
            schemes=(*PREFIXED, *SHARED),
            factory="tranship_kombu._backend:make_backend",
            summary="every transport of kombu: SQS, Pub/Sub, Service Bus, files, databases and more",
            requirement="kombu>=5.4",
            yields=SHARED,
            api_version=(2, 0),
        )
    )
