"""Files that were downloaded before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_files import put, ran

from tranship import task
from tranship.errors import InvalidOptionError
from tranship_objectstore import LargePayloads, ObjectStore


class Counting(ObjectStore):
    downloads = 0

    async def download(self, found, path):
        self.downloads += 1
        await super().download(found, path)


@task(name="cache.reads")
def reads(source: Path) -> str:
    text = source.read_text()
    source.write_text("changed by the handler")
    return text


@pytest.fixture(params=["memory", "s3"])
def store(request, s3_bucket) -> Counting:
    if request.param == "memory":
        return Counting("memory://cache/x")
    other = request.getfixturevalue("s3_store")()
    return Counting(other.root.uri, endpoint_url=other._endpoint, access_key="AKIATEST", secret_key="hunter2")


def test_the_same_content_is_downloaded_once(store, tmp_path):
    payloads = LargePayloads(store, directory=tmp_path, cache_size=1000)
    uri = put(store, f"{store.root.uri}/x", b"one")
    assert [ran(payloads, reads, uri).value for _ in range(3)] == ["one"] * 3
    assert store.downloads == 1
    put(store, uri, b"two")
    assert [ran(payloads, reads, uri).value for _ in range(2)] == ["two"] * 2
    assert store.downloads == 2
    again = LargePayloads(store, directory=tmp_path, cache_size=1000)
    assert ran(again, reads, uri).value == "two"
    assert store.downloads == 2


def test_the_cache_has_a_bound(tmp_path):
    store = Counting("memory://cache/x")
    payloads = LargePayloads(store, directory=tmp_path, cache_size=25)
    uris = [put(store, f"memory://cache/x/{number}", b"0123456789") for number in range(3)]
    ran(payloads, reads, uris[0])
    ran(payloads, reads, uris[1])
    (first,) = {path for path in (tmp_path / "cache").iterdir() if path.stat().st_mtime_ns == min(ages(tmp_path))}
    os.utime(first, (1, 1))
    ran(payloads, reads, uris[2])
    assert not first.exists()
    assert len(list((tmp_path / "cache").iterdir())) == 2
    large = put(store, "memory://cache/x/large", b"x" * 26)
    ran(payloads, reads, large)
    ran(payloads, reads, large)
    assert store.downloads == 5
    with pytest.raises(InvalidOptionError, match="cache_size"):
        LargePayloads(store, cache_size=-1)


def ages(place: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in (place / "cache").iterdir()]
