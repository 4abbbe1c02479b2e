"""A worker of Azolla's shape at work, beside a broker that the test has to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from documents._blocks import Block, read_blocks
from tranship.compat.azolla.task import core_task


@pytest.fixture
def block() -> Callable[[int], Block]:
    """A block of the document by its number, with Azolla's imports as ours."""
    blocks = read_blocks(Path(__file__).parent / "document.md")
    return lambda number: blocks[number].renamed("azolla", "tranship.compat.azolla")


@pytest.fixture
def serve(tranship_worker) -> Callable[..., None]:
    """Have a worker run these tasks."""
    return lambda *tasks, **options: tranship_worker(*map(core_task, tasks), **options)
