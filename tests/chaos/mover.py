"""A move in a process of its own that is killed: ``python -m chaos.mover SOURCE TARGET AFTER MILLIS``.

It kills itself MILLIS after it has moved AFTER messages, at whatever it does then; AFTER 0: it ends well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from tranship.operations import Move, MoveOptions, MoveProgress
from tranship.settings import Settings


def main(source: str, target: str, after: str, millis: str) -> int:
    first, second = (Settings.load({}, broker_url=url) for url in (source, target))
    armed = threading.Event()

    def watch(told: MoveProgress) -> None:
        if 0 < int(after) <= told.moved and not armed.is_set():
            armed.set()
            threading.Timer(float(millis) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

    report = asyncio.run(Move(first, second, MoveOptions(), watcher=watch).run())
    print(report.error or "", f"moved {report.moved}, already there {report.already_there}")
    return 1 if report.error else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
