"""Room on the disk: the log does not keep what a burst has taken, and a disk that was full is used again by itself."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_kit import inside, message, opened

from tranship.backends.sqlite._upkeep import SMALL
from tranship.driver import DriverBackend
from tranship.envelope import Receipt
from tranship.errors import StorageFull
from tranship.ports import Settlement, Verdict

SIZE = 6 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tranship-test", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here; test_sqlite_storage limits the file instead")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def fill(backend: DriverBackend) -> int:
    """Submit until the disk is full; return how many tasks it took."""
    for count in range(10_000):
        answers = await backend.submitter().submit([message(args=["x" * 3000]) for _ in range(20)])
        refused = [one for one in answers if not isinstance(one, Receipt)]
        if refused:
            assert {type(one) for one in refused} == {StorageFull}
            return 20 * count + 20 - len(refused)
    raise AssertionError("the disk is not full")


async def drain(backend: DriverBackend, within: float = 20.0) -> int:
    """Take and finish what is there, whatever is full meanwhile; return how many."""
    consumer, count, end = backend.consumer(["q"]), 0, time.monotonic() + within
    while time.monotonic() < end:
        found = await consumer.receive(50, 0.2)
        if not found.deliveries:
            break
        await consumer.settle([Settlement(one, Verdict.ACK) for one in found.deliveries])
        count += len(found.deliveries)
    await consumer.aclose()
    return count


async def test_tasks_are_finished_on_a_full_disk_and_make_room_for_others(small_disk: Path) -> None:
    """Before, the log filled the disk: it could not be moved any more, and nothing was ever taken again."""
    async with opened(small_disk / "a.db") as backend:
        taken = await fill(backend)
        assert taken > 500
        assert await drain(backend) == taken
        again = await fill(backend)
        assert again > taken / 2
        assert await drain(backend) == again


async def test_a_disk_that_others_filled_is_used_again_once_there_is_room(small_disk: Path) -> None:
    path = small_disk / "a.db"
    async with opened(path) as backend:
        taken = [await backend.submitter().submit([message(args=["x" * 3000]) for _ in range(200)])]
        stuff(small_disk / "other")
        taken.append(await backend.submitter().submit([message() for _ in range(20)]))
        assert {type(one) for one in taken[1]} == {StorageFull}
        (small_disk / "other").unlink()
        taken.append(await backend.submitter().submit([message() for _ in range(20)]))
        assert {type(one) for one in taken[2]} == {Receipt}
        assert await drain(backend) == 220


def stuff(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


async def test_the_log_gives_back_what_a_burst_took(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        bursts = [backend.submitter().submit([message(args=["x" * 20_000]) for _ in range(100)]) for _ in range(10)]
        await asyncio.gather(*bursts)
        log = inside(backend).location.wal_path
        assert log.stat().st_size > SMALL
        async with asyncio.timeout(15):
            while log.stat().st_size > SMALL:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.05)
