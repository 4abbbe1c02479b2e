"""However large a file is, a few parts of it are in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 512
MOST = 64

TRANSFER = """
import asyncio, sys
from pathlib import Path
from tranship_objectstore import ObjectStore
from tranship_objectstore._location import location_of

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

async def there_and_back(store, path):
    place = location_of(f"{store.root.uri}/{path.name}")
    await store.upload(place, path)
    back = path.with_suffix(".back")
    await store.download(await store.find(place), back)
    assert back.stat().st_size == path.stat().st_size

async def main(directory):
    store = ObjectStore(f"file://{directory}/store")
    await there_and_back(store, Path(directory, "small"))
    before = peak()
    await there_and_back(store, Path(directory, "large"))
    print(peak() - before)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most a process has had")
def test_a_file_takes_no_more_memory_than_some_parts_of_it(tmp_path):
    Path(tmp_path, "small").write_bytes(b"x" * 1000)
    with Path(tmp_path, "large").open("wb") as file:
        file.truncate(MEGABYTES << 20)
    done = subprocess.run(
        [sys.executable, "-c", TRANSFER, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST
