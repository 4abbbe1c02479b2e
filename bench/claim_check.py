"""One file of a gigabyte through a task and back: time, and the memory that the worker's process took.

``python bench/claim_check.py [MEGABYTES] [URL [ENDPOINT_URL]]``; without a URL the store is a directory.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tranship import Client, Worker, task
from tranship_objectstore import LargePayloads, ObjectStore
from tranship_objectstore._location import location_of

BLOCK = bytes(range(256)) * 4096


@task(name="bench.back")
async def back(source: Path):
    """Return the file that came."""
    return source


def peak() -> float:
    """The most memory this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux that counts what the parent had when it started this process.
        (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def work(uri: str, directory: str, *store: str) -> None:
    """In a process of its own: a task that is given the file and returns it."""
    url, endpoint = (*store, None)[:2]
    payloads = LargePayloads(ObjectStore(url, endpoint_url=endpoint), directory=directory, sweep_interval=None)
    with Client("memory://bench") as client:
        warm = client.submit(back, uri.replace("large.bin", "small.bin"))
        worker = Worker("memory://bench", tasks=[back], middleware=[payloads])
        worker.run_until_idle(600)
        warm.result(5)
        before, began = peak(), time.perf_counter()
        handle = client.submit(back, uri)
        worker.run_until_idle(600)
        handle.result(5)
    took = time.perf_counter() - began
    print(f"{took:.2f} s down and up again; peak RSS {peak():.0f} MB, before the file {before:.0f} MB")


def main(megabytes: int, *store: str) -> None:
    """Make the file, and measure."""
    with tempfile.TemporaryDirectory() as place:
        store = store or (f"file://{place}/store",)
        large, small = Path(place, "large.bin"), Path(place, "small.bin")
        with large.open("wb") as file:
            for _ in range(megabytes):
                file.write(BLOCK)
        small.write_bytes(BLOCK)
        objects = ObjectStore(store[0], endpoint_url=(*store, None)[1] if len(store) > 1 else None)
        for path in (large, small):
            asyncio.run(objects.upload(location_of(f"{store[0]}/in/{path.name}"), path))
        large.unlink()
        print(f"{megabytes} MB at {store[0].partition(':')[0]}: ", end="", flush=True)
        command = [sys.executable, __file__, "--work", f"{store[0]}/in/large.bin", f"{place}/tasks", *store]
        subprocess.run(command, check=True, timeout=600)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main(int((sys.argv[1:2] or ["1024"])[0]), *sys.argv[2:])
