"""Only an index that cannot be reached excuses a test from comparing."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from documents._published import fetch_published

PACKAGE = "tranship-that-nobody-has-published"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make pip ask this index, and no other place."""

    def use(url: str) -> None:
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", url)
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name, raising=False)

    return use


def test_an_index_that_cannot_be_reached_is_a_skip(index, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        index(f"http://127.0.0.1:{nobody.getsockname()[1]}/simple")
        with pytest.raises(pytest.skip.Exception, match="the package index cannot be reached"):
            fetch_published(tmp_path, PACKAGE)


def test_what_an_index_does_not_have_is_a_failure(index, tmp_path):
    (tmp_path / "simple").mkdir()
    index(f"file://{tmp_path}/simple")
    with pytest.raises(AssertionError, match="No matching distribution"):
        fetch_published(tmp_path / "there", PACKAGE)
