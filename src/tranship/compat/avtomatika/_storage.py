"""Whether a worker has a store for files, and what to install for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tranship.compat.avtomatika._config import WorkerConfig
from tranship.errors import ConfigurationError

if TYPE_CHECKING:
    from tranship.compat.avtomatika._payloads import Payloads

__all__ = ["payloads_of"]


def payloads_of(config: WorkerConfig) -> Payloads | None:
    """Return the payloads in S3 that ``config`` sets up; None: it sets up none.

    Raises:
        ConfigurationError: tranship-objectstore is not installed.
        InvalidOptionError: a value that cannot be used.
    """
    if not config.has_s3:
        return None
    try:
        from tranship.compat.avtomatika._payloads import Payloads
    except ImportError as error:
        raise ConfigurationError(
            "S3 variables are set, and payloads in S3 need tranship-objectstore, which cannot be imported "
            f"({error}). To add it, in a clone of tranship: pip install ./plugins/tranship-objectstore"
        ) from error
    return Payloads(config)
