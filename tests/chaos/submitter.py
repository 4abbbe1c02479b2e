"""A submitter in a process of its own that the tests kill: ``python -m chaos.submitter URL``.

It submits one by one, from several threads, and in batches, and says every id that was acknowledged, afterwards.
"""

from __future__ import annotations

import os
import sys
import threading

from chaos.worker import work
from tranship import Client


def say(ids: list[str]) -> None:
    """Tell the parent in one write, so that lines are whole or missing."""
    os.write(1, ("".join(f"{one}\n" for one in ids)).encode())


def one_by_one(client: Client) -> None:
    while True:
        say([client.submit(work, 0, 0.0).id])


def in_batches(client: Client) -> None:
    while True:
        say([handle.id for handle in client.submit_many(work.call(0, 0.0) for _ in range(20))])


def main(url: str) -> None:
    with Client(url) as client:
        for target in (one_by_one, one_by_one, in_batches):
            threading.Thread(target=target, args=(client,), daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
