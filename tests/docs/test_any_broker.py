"""The tutorial's programs, as they stand on the page, on every broker: only the environment says which."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import pytest

from docs.snippets import blocks
from interop.runs import until
from interop.workers import WorkerProcess
from tranship import Client, Worker, task
from tranship.errors import UnsupportedError
from tranship.testing.services import Service, ServiceFinder

PAGE = Path(__file__).parents[2] / "docs/tutorial/index.md"
WEB = Path(__file__).parents[2] / "docs/how-to/web-application.md"
SERVERS = ("redis", "rabbitmq", "nats")
ALONE = ("sqlite", *SERVERS)
TOGETHER = [("rabbitmq", "redis"), ("redis", "nats")]
MORE_OF_THEM = [
    ("nats", "redis"),
    ("redis", "sqlite"),
    ("rabbitmq", "nats"),
    ("rabbitmq", "sqlite"),
    ("sqlite", "redis"),
]
"""Each broker and each store of these is among the others, or alone, every day; only the pairs are new."""
PAIRS = [*TOGETHER, *(pytest.param(*pair, marks=pytest.mark.campaign) for pair in MORE_OF_THEM)]
HERE = """
import asyncio, runpy
from photos import resize, upload
from tranship import Worker
from tranship.testing.background import BackgroundWorker

with BackgroundWorker(Worker(tasks=[resize, upload])):
    runpy.run_path("first.py", run_name="__main__")
    runpy.run_path("many.py", run_name="__main__")
"""
"""A broker in memory is one process: worker and programs share it."""


class Reader:
    """Somebody who types in what the page says, with some variables set."""

    def __init__(self, folder: Path, environ: dict[str, str], page: Path = PAGE) -> None:
        self._folder = folder
        self._environ = environ
        for block in blocks(page.read_text("utf-8")):
            if block.title:
                with (folder / block.title).open("a", encoding="utf-8") as file:
                    file.write(block.text)

    def python(self, *arguments: str) -> str:
        """What a program prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env={**os.environ, **self._environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def worker(self, name: str, *options: str) -> TutorialWorker:
        """A worker, in the background while the block lasts."""
        return TutorialWorker(
            [sys.executable, "-m", "tranship", "worker", "photos", *options], self._folder, name, self._environ
        )


class TutorialWorker(WorkerProcess):
    def __enter__(self) -> Self:
        self.start("consumes")
        return self

    def leave(self) -> None:
        assert (status := self.stop()) == 0, f"it ended with {status}:\n{self.output()[-3000:]}"

    def ended(self) -> list[str]:
        """The ids of the tasks that have succeeded, in order."""
        lines = [line for line in self.output().splitlines() if line.endswith("succeeded")]
        return [line.partition(": task ")[2].split()[0] for line in lines]


@task
def nothing() -> None: ...


@pytest.fixture
def place(tmp_path: Path, tranship_service: Callable[[str], Service]) -> Callable[[str], str]:
    """Where a broker is: a part of it that this test has to itself."""

    def url(name: str) -> str:
        if name == "memory":
            return "memory://"
        if name == "sqlite":
            return f"sqlite:///{tmp_path / 'tasks.db'}"
        if find_spec(f"tranship_{name}") is None:
            (pytest.fail if name in ServiceFinder().required else pytest.skip)(f"tranship-{name} is not installed")
        return f"{tranship_service(name).url}?namespace=page-{uuid.uuid4().hex[:8]}"

    return url


@pytest.fixture
def reader(tmp_path: Path, place: Callable[[str], str]) -> Iterator[Callable[..., Reader]]:
    def reader(broker: str, results: str | None = None) -> Reader:
        environ = {"TRANSHIP_BROKER_URL": place(broker)}
        if results is not None:
            environ["TRANSHIP_RESULT_URL"] = place(results)
        return Reader(tmp_path, environ)

    return reader


def test_in_memory(reader: Callable[..., Reader]) -> None:
    assert reader("memory").python("-c", HERE).splitlines() == ["cat.png, 640 pixels wide", "1000 done"]


@pytest.mark.parametrize("broker", ALONE)
def test_a_broker_alone(reader: Callable[..., Reader], broker: str) -> None:
    page = reader(broker)
    with page.worker("worker"):
        assert page.python("first.py") == "cat.png, 640 pixels wide\n"
        assert page.python("many.py") == "1000 done\n"
    page.python("order.py")
    with page.worker("one-by-one", "--concurrency", "1") as worker:
        until(lambda: len(worker.ended()) == 4, "all four have run")
    # What is due after all comes where its priority says.
    assert [one for one in worker.ended() if one != "later"] == ["high", "normal", "low"]
    assert worker.ended().index("later") >= 2


@pytest.mark.parametrize(("broker", "results"), PAIRS, ids=lambda name: name)
def test_a_broker_and_a_result_store(reader: Callable[..., Reader], broker: str, results: str) -> None:
    page = reader(broker, results)
    with page.worker("worker"):
        assert page.python("first.py") == "cat.png, 640 pixels wide\n"
        assert page.python("-m", "tranship", "submit", "photos:upload", "cat.png", "--id", "up") == "up\n"
        # From another process: the store has it.
        assert page.python("-m", "tranship", "result", "up", "--wait", "20") == "cat.png is there\n"
        assert page.python("many.py") == "1000 done\n"


def test_rabbitmq_is_no_result_store(place: Callable[[str], str]) -> None:
    """It cannot be read: refused when client or worker opens, with the reason and the cure."""
    urls = (place("sqlite"), place("rabbitmq"))
    reason = "rabbitmq keeps no results and cannot be the result store of another broker: set TRANSHIP_RESULT_URL"
    with pytest.raises(UnsupportedError, match=reason), Client(urls[0], result_url=urls[1]):
        pass
    with pytest.raises(UnsupportedError, match=reason):
        Worker(urls[0], result_url=urls[1], tasks=[nothing]).run()


OWN_URL = """
import os
import pytest

@pytest.fixture
def tranship_url():
    return os.environ["URL_OF_THE_TEST"]
"""


@pytest.mark.parametrize("name", ["sqlite", "redis", "nats"])
def test_the_web_applications_tests_pass_on_any_broker(name: str, tmp_path: Path, place: Callable[[str], str]) -> None:
    """An id that nobody has given out is a 404; where the store has to be told of ids, with the option of the page."""
    url = place(name)
    if name != "sqlite":
        url += f"{'&' if '?' in url else '?'}knows_ids=true"
    page = Reader(tmp_path, {"URL_OF_THE_TEST": url}, WEB)
    (tmp_path / "conftest.py").write_text(OWN_URL)
    said = page.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py")
    assert "3 passed" in said
