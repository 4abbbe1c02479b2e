"""Every transport of kombu as a broker for tranship, and results in Celery's tables.

Importing this module imports neither kombu nor SQLAlchemy: it only describes what there is.
"""

from collections.abc import Callable

from tranship.hookspecs import BackendSpec, ResultStoreSpec, hookimpl
from tranship_kombu._schemes import DATABASES, PREFIXED, SHARED

__all__ = ["tranship_register_backends", "tranship_register_result_stores"]


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


@hookimpl
def tranship_register_result_stores(register: Callable[[ResultStoreSpec], None]) -> None:
    """Describe the store of results in Celery's tables."""
    register(
        ResultStoreSpec(
            name="celery-database",
            schemes=DATABASES,
            factory="tranship_kombu._results:make_store",
            summary="results in the tables of Celery's db+ backends, on SQLAlchemy",
            requirement="sqlalchemy>=2",
            api_version=(2, 0),
        )
    )
