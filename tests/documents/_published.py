"""Packages as they are published: fetched from the index, so that their surface can be compared with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

UNREACHABLE = "after connection broken by"
"""What pip says each time that it tries once more, and of nothing but connections."""


def fetch_published(folder: Path, *requirements: str) -> None:
    """Unpack packages, without what they depend on, into ``folder``. The test is skipped where no index can be reached.

    Everything else that pip refuses is a failure: a version that is gone, a wheel that is broken.
    """
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    patience = ["--retries", "1", "--timeout", "10"]
    done = subprocess.run(
        [*pip, *patience, "--target", str(folder), *requirements],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode and UNREACHABLE in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip()[-200:]}")
    assert not done.returncode, done.stderr
