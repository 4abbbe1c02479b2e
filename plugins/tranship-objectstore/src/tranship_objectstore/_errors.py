"""What can go wrong with objects and files, in one tree.

::

    TaskError
    └── ObjectStoreError
        ├── ObjectStoreUnreachable     retryable: no connection, no answer in time, an error of the server's own
        ├── ObjectChanged              retryable: it was replaced while it was read
        ├── ObjectNotFound             permanent: no such object, or no such bucket
        ├── ObjectStoreDenied          permanent: the credentials are wrong, or lack a right
        ├── ObjectRefused              permanent: a URI that names no object, or one that is too large
        └── PathOutsideDirectory       permanent: a returned path leaves the task's directory

Their texts name the object and what happened, and never hold a credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from obstore import exceptions

from tranship.errors import TaskError

__all__ = [
    "ObjectChanged",
    "ObjectNotFound",
    "ObjectRefused",
    "ObjectStoreDenied",
    "ObjectStoreError",
    "ObjectStoreUnreachable",
    "PathOutsideDirectory",
    "translated",
]

_SHOWN: Final = 300
"""Characters of what the store says."""


class ObjectStoreError(TaskError):
    """Something about an object, or a file that is to become one."""

    code = "OBJECT_STORE"
    retryable = False


class ObjectStoreUnreachable(ObjectStoreError):
    """The store cannot be reached, did not answer in time, or failed itself."""

    code = "OBJECT_STORE_UNREACHABLE"
    retryable = True


class ObjectChanged(ObjectStoreError):
    """The object was replaced while it was read."""

    code = "OBJECT_CHANGED"
    retryable = True


class ObjectNotFound(ObjectStoreError):
    """There is no such object, or no such bucket."""

    code = "OBJECT_NOT_FOUND"


class ObjectStoreDenied(ObjectStoreError):
    """The credentials are wrong or missing, or lack a right."""

    code = "OBJECT_STORE_DENIED"


class ObjectRefused(ObjectStoreError):
    """A URI that names no object, an object that is too large, or a request that the store does not know."""

    code = "OBJECT_REFUSED"


class PathOutsideDirectory(ObjectStoreError):
    """A handler returned a path that leaves the task's directory."""

    code = "PATH_OUTSIDE_DIRECTORY"


_KINDS: Final[Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], type[ObjectStoreError], str]]] = (
    (FileNotFoundError, ObjectNotFound, "there is no such object, or no such bucket"),
    (
        (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError),
        ObjectStoreDenied,
        "the store denies it; look at the credentials and their rights",
    ),
    (
        (exceptions.PreconditionError, exceptions.NotModifiedError),
        ObjectChanged,
        "it was replaced while it was read",
    ),
    (
        (
            exceptions.InvalidPathError,
            exceptions.NotSupportedError,
            exceptions.UnknownConfigurationKeyError,
            NotImplementedError,
            ValueError,
        ),
        ObjectRefused,
        "",
    ),
    (exceptions.BaseError, ObjectStoreUnreachable, ""),
)


def translated(error: Exception, doing: str, secrets: Sequence[str]) -> Exception:
    """Return ``error`` of obstore as one of ours; another exception as it is.

    Args:
        error: what obstore raised; it must not become a cause, as its text may hold anything.
        doing: what was tried, such as ``"reading s3://bucket/key"``.
        secrets: texts that must not be shown.
    """
    for kinds, ours, meaning in _KINDS:
        if isinstance(error, kinds):
            return ours(f"{doing} failed: {meaning or _said(error, secrets)}")
    return error


def _said(error: Exception, secrets: Sequence[str]) -> str:
    """The first line of what the store says, without its document and without secrets."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].partition("<")[0]
    words = [word.partition("?")[0] if "://" in word else word for word in first.split()]
    text = " ".join(words)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
