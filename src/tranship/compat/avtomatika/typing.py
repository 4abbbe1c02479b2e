"""The same as :mod:`tranship.compat.avtomatika.types`, under the name that the document has."""

from __future__ import annotations

from tranship.compat.avtomatika.types import *  # noqa: F403 - all of it, listed in one place
from tranship.compat.avtomatika.types import __all__ as __all__  # noqa: PLC0414
