"""A backend for Django's tasks, and ``manage.py tranship``. An app of Django's: name it in ``INSTALLED_APPS``.

Importing this module imports nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tranship_django._backend import TranshipBackend

__all__ = ["TranshipBackend"]


def __getattr__(name: str) -> Any:
    if name == "TranshipBackend":
        from tranship_django._backend import TranshipBackend

        return TranshipBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
