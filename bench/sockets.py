"""How many connections this process has to its Redis, by the kernel's own account."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

from address import redis_url

ESTABLISHED = "01"


def connections() -> int:
    """Count them; 0 where there is no ``/proc``."""
    port = f":{urlsplit(redis_url()).port:04X}"
    table = Path("/proc/self/net/tcp")
    rows = [row.split() for row in table.read_text().splitlines()[1:]] if table.exists() else []
    inodes = {row[9] for row in rows if row[2].endswith(port) and row[3] == ESTABLISHED}
    return len(inodes & own_sockets()) if inodes else 0


def own_sockets() -> set[str]:
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        try:
            target = str(handle.readlink())
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


class Peak:
    """The most connections there were at once, looked at ten times a second."""

    def __init__(self, every: float = 0.1) -> None:
        self.most = 0
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(self._every):
            self.most = max(self.most, connections())
