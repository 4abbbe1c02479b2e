"""The default backend: one SQLite file, several processes, crash-safe.

Layers, from the bottom: ``_options``, ``_clock``, ``_faults``, ``_mounts``, ``_location`` (what is told and
found out); ``_schema``, ``_connection``, ``_sidelock``, ``_bell``, ``_forks`` (one thing of the system each);
``_transaction`` and the statement modules (``_enqueue``, ``_claims``, ``_settling``, ``_outcomes``, ``_signals``,
``_peers``, ``_deadletters``, ``_inspection``, ``_upkeep``), which are plain functions of a transaction;
``_store``, which runs them; ``_writer``, the one thread it runs in; ``_hub``, what the ports share; and the ports.
"""

from tranship.backends.sqlite._backend import SqliteBackend
from tranship.backends.sqlite._options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteOptions"]
