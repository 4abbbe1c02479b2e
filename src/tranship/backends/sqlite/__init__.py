"""The default backend: one SQLite file, several processes, crash-safe.

Layers, from the bottom: ``_options``, ``_file``, ``_database`` (what is told, one thing of the system each);
``_transaction`` and what is done in one: ``_tasks``, ``_table``, ``_peers``, ``_upkeep``; ``_store``, which runs it;
``_writer``, the one thread it runs in; ``_queue``, ``_table`` and ``_topic``, the verbs of the driver; ``_connection``,
which has them; ``_backend``.
"""

from tranship.backends.sqlite._backend import make_backend
from tranship.backends.sqlite._options import SqliteOptions

__all__ = ["SqliteOptions", "make_backend"]
