"""Reading a document that was exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tranship.errors import ConfigurationError
from tranship.schema._describe import VERSION

__all__ = ["read_document"]


def read_document(path: Path) -> dict[str, Any]:
    """Return the document that ``tranship schema export`` has written to ``path``.

    Raises:
        ConfigurationError: it cannot be read, or is no such document.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("tranship_schema") != VERSION:
        raise ConfigurationError(f"{path} is no document of `tranship schema export` (version {VERSION})")
    tasks = found.get("tasks")
    if not isinstance(tasks, dict) or not all(isinstance(one, dict) for one in tasks.values()):
        raise ConfigurationError(f"{path} has no tasks")
    return found
