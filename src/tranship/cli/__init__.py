"""The command line: entry points over what a library user can call, and nothing else."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run ``tranship`` with the process's arguments, and end the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where the encoding cannot say it, an escape can: no text ends a listing.
            stream.reconfigure(errors="backslashreplace")
    # Imported here, so that importing this package stays light.
    from tranship.cli._app import app
    from tranship.cli._leave import leave

    # Named the same under `python -m tranship`: shell completion goes by the name.
    leave(app(prog_name="tranship", standalone_mode=False))
