"""Entry of every measured process: pin, run one function, print its result.

Usage: ``python child.py module:function '{"cpu": 0, ...}'``. The function gets the other keys as arguments and
returns what JSON can hold. One that serves calls :func:`ready` and then :func:`until_told`, or awaits
:func:`until_told_async`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys


def say(word: str, value: object = None) -> None:
    """One line to the parent."""
    print(f"@{word} {json.dumps(value)}", flush=True)


def ready() -> None:
    """Start-up is over."""
    say("ready")


def until_told() -> None:
    """Wait until the parent closes our standard input."""
    sys.stdin.read()


async def until_told_async() -> None:
    """The same, without holding up the loop."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), told.set)
    await told.wait()
    loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    target, arguments = sys.argv[1], json.loads(sys.argv[2])
    cpu = arguments.pop("cpu")
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    # The functions import this module by its name: one copy only.
    sys.modules["child"] = sys.modules["__main__"]
    module, function = target.split(":")
    say("result", getattr(importlib.import_module(module), function)(**arguments))


if __name__ == "__main__":
    main()
