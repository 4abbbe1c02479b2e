"""The command ``azolla-worker``. It is a distribution of its own, so that Azolla's can have the name elsewhere."""

from tranship.compat.azolla.cli import worker_main_sync as main

__all__ = ["main"]
