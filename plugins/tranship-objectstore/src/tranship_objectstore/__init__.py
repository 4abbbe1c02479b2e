"""Files and large payloads in an object store, as a middleware of clients and workers.

:class:`LargePayloads` downloads what arguments name by URI, uploads the files that a handler returns, and
keeps bodies and results that are too large for the broker (claim check).
"""

from __future__ import annotations

from tranship_objectstore._directories import task_directory
from tranship_objectstore._errors import (
    ObjectChanged,
    ObjectNotFound,
    ObjectRefused,
    ObjectStoreDenied,
    ObjectStoreError,
    ObjectStoreUnreachable,
    PathOutsideDirectory,
)
from tranship_objectstore._location import Location, location_of
from tranship_objectstore._payloads import LargePayloads
from tranship_objectstore._store import Found, ObjectStore

__all__ = [
    "Found",
    "LargePayloads",
    "Location",
    "ObjectChanged",
    "ObjectNotFound",
    "ObjectRefused",
    "ObjectStore",
    "ObjectStoreDenied",
    "ObjectStoreError",
    "ObjectStoreUnreachable",
    "PathOutsideDirectory",
    "location_of",
    "task_directory",
]
