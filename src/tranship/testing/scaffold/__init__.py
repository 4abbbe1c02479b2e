"""What is written to begin with: an application with tasks, or a distribution with a backend.

::

    new_app(Path("shop"))               # ./shop, with a worker, a test and a compose file
    new_plugin("mine", Path.cwd())      # ./tranship-mine, for mine:// URLs

What they consist of is in ``files``: each ``.tmpl`` is a :class:`string.Template`.
"""

from __future__ import annotations

from tranship.testing.scaffold._app import new_app
from tranship.testing.scaffold._plugin import new_plugin

__all__ = ["new_app", "new_plugin"]
