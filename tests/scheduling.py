"""How pytest-xdist shares the tests out among its processes, where ``--dist=loadgroup`` was said."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = ("tests/interop/", "tests/sandai/", "plugins/tranship-rabbitmq/tests/test_rabbitmq_transports.py")
"""Where the fixtures of a module start processes or servers: elsewhere they would be started once more."""


class ModulesTogether(LoadScopeScheduling):
    """Each test goes to whoever is free, but those of a module in ``TOGETHER`` stay in one process, in their order.

    Not by xdist's own marks: pytest 9.2 does not let xdist 3.8 note a test's group, and says nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module.startswith(TOGETHER) else nodeid
