"""Tasks of every kind while workers are killed: one end for each, no limit exceeded, no memory lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from soak.report import soak

FEW = 300


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_soak(url: str, amount: int, seed: int, tmp_path: Path, tell: Callable[[str], None]) -> None:
    report = soak(url, amount, seed, tmp_path, pause=(1.0, 5.0))
    tell(str(report))
    report.check(amount)


@pytest.mark.slow
def test_a_short_soak(sqlite_url: str, seed: int, tmp_path: Path, tell: Callable[[str], None]) -> None:
    report = soak(sqlite_url, FEW, seed, tmp_path, pause=(0.3, 0.8))
    tell(str(report))
    report.check(FEW)
