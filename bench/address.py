"""Where the broker of a measurement is: a file in its directory, for tranship and peers alike."""

from __future__ import annotations

from pathlib import Path

FILE = "broker.url"
RESULTS = "results.url"
"""Where a peer keeps its results, if not at the broker."""


def given() -> str | None:
    """The URL of the server that was started for this measurement; None: there is none."""
    file = Path(FILE)
    return file.read_text() if file.exists() else None


def redis_url() -> str:
    """The URL of our Redis."""
    url = given()
    assert url is not None, f"no {FILE} in {Path.cwd()}"
    return url
