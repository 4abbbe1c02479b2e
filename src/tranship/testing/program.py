"""Programs in processes of their own, for what a test must not do in its own: fork, end, outlive its main thread."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap

__all__ = ["printed_by"]

PATIENCE = 40.0
"""Seconds that a program may take."""


async def printed_by(program: str, *arguments: str, silent: bool = True) -> list[str]:
    """Run ``program`` and return the lines that it prints.

    Args:
        program: Python.
        arguments: its ``sys.argv[1:]``.
        silent: it has to print nothing on stderr.

    Raises:
        AssertionError: it failed, or complained.
        TimeoutError: it took too long.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        textwrap.dedent(program),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode()
    assert not (silent and complaints), complaints.decode()
    return out.decode().splitlines()
