"""Files of tasks: what arguments name is fetched, what handlers return is kept; and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tranship import Client, Outcome, Worker, task
from tranship.envelope import TaskResult
from tranship.errors import InvalidOptionError
from tranship.retry import FixedBackoff, RetryPolicy
from tranship_objectstore import LargePayloads, ObjectStore, task_directory
from tranship_objectstore._location import location_of

BROKER = "memory://objects"
ONCE_MORE = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))


def put(store: ObjectStore, uri: str, content: bytes = b"a picture") -> str:
    asyncio.run(store.upload(location_of(uri), content))
    return uri


def get(store: ObjectStore, uri: str) -> bytes:
    async def read():
        found = await store.find(location_of(uri))
        return bytes(await store.read(found, 0, found.size)) if found.size else b""

    return asyncio.run(read())


def keys(store: ObjectStore) -> list[str]:
    async def listed():
        return sorted([one.location.key async for one in store.below(store.root)])

    return asyncio.run(listed())


def ran(payloads: LargePayloads, handler: Any, *args: Any, **kwargs: Any) -> TaskResult:
    """Submit it, work until it has ended, and return how."""
    with Client(BROKER) as client:
        handle = client.submit(handler, *args, **kwargs)
        Worker(BROKER, tasks=[handler], middleware=[payloads]).run_until_idle(30)
        return handle.wait(10)


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store of each kind."""
    if request.param == "file":
        return ObjectStore(f"file://{tmp_path}/store")
    if request.param == "memory":
        return ObjectStore("memory://store/work")
    return request.getfixturevalue("s3_store")()


@pytest.fixture
def payloads(store: ObjectStore, tmp_path: Path) -> LargePayloads:
    return LargePayloads(store, directory=tmp_path / "tasks")


@dataclass
class Job:
    source: str
    width: int = 64


class Order(BaseModel):
    files: list[Path]


# Both ways.


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_uris_become_paths_and_paths_become_uris(store, payloads, tmp_path, kind):
    seen = []

    def work(source: str, rest: dict) -> dict:
        seen[:] = [source, rest["nested"][0], rest["same"], rest["text"]]
        target = task_directory() / "out" / "small.png"
        target.parent.mkdir()
        target.write_bytes(Path(source).read_bytes().upper())
        return {"as text": str(target), "as path": [target], "text": "/etc/passwd"}

    async def work_async(source: str, rest: dict) -> dict:
        return work(source, rest)

    handler = task(name="work")(work if kind == "def" else work_async)
    first = put(store, f"{store.root.uri}/in/a b%20.png")
    other = put(store, f"{store.root.uri}/in/more/a b%20.png", b"")
    result = ran(payloads, handler, first, rest={"nested": [other], "same": first, "text": f"see {first}"})

    assert result.success, result
    source, nested, same, text = map(str, seen)
    assert (Path(source).name, Path(nested).name) == ("a b%20.png", "a b%20.png")
    assert source == same != nested
    assert text == f"see {first}"
    assert result.value["as text"] == result.value["as path"][0]
    assert result.value["as text"].startswith(f"{store.root.uri}/files/kept/")
    assert result.value["as text"].endswith("/out/small.png")
    assert get(store, result.value["as text"]) == b"A PICTURE"
    assert result.value["text"] == "/etc/passwd"
    assert not Path(source).exists()
    assert list((tmp_path / "tasks").glob("run-*/*")) == []


def test_models_and_outcomes_are_looked_into(payloads, store):
    @task(name="models")
    def models(job: Job, order: Order) -> Any:
        texts = [Path(job.source).read_text(), *(one.read_text() for one in order.files)]
        made = task_directory() / "made.txt"
        made.write_text(" ".join(texts))
        return Outcome("reviewed", Job(source=str(made)))

    uris = [put(store, f"{store.root.uri}/{name}", name.encode()) for name in ("one", "two", "three")]
    result = ran(payloads, models, Job(uris[0]), Order(files=uris[1:]))
    assert (result.status, result.value["width"]) == ("reviewed", 64)
    assert get(store, result.value["source"]) == b"one two three"


@pytest.mark.parametrize("annotation", [str, Path])
def test_folders_travel_both_ways(payloads, store, annotation):
    def folders(inbox):
        assert isinstance(inbox, annotation)
        files = sorted(path for path in Path(inbox).rglob("*") if path.is_file())
        outbox = task_directory() / "outbox"
        for path in files:
            target = outbox / path.relative_to(inbox)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes() * 2)
        return outbox

    for name in ("a.txt", "deep/er/b.txt"):
        put(store, f"{store.root.uri}/inbox/{name}", name.encode())
    folders.__annotations__["inbox"] = annotation
    result = ran(payloads, task(name="folders")(folders), f"{store.root.uri}/inbox/")
    assert result.value.endswith("/outbox/")
    assert get(store, f"{result.value}deep/er/b.txt") == b"deep/er/b.txt" * 2
    assert get(store, f"{result.value}a.txt") == b"a.txt" * 2


def test_a_path_of_neither_a_file_nor_a_folder_is_not_found(payloads, store):
    @task(name="none")
    def none(inbox: Path): ...

    result = ran(payloads, none, f"{store.root.uri}/nothing/")
    assert (result.error.code, result.error.retryable) == ("OBJECT_NOT_FOUND", False)


def test_large_files_come_in_parts(payloads, store):
    content = b"0123456789abcdef" * (12 << 16) + b"end"

    @task(name="copies")
    def copies(source: Path):
        target = task_directory() / "copy.bin"
        target.write_bytes(source.read_bytes())
        return target

    result = ran(payloads, copies, put(store, f"{store.root.uri}/large.bin", content))
    assert get(store, result.value) == content


def test_only_what_is_to_be_downloaded_is(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2")
    store = ObjectStore("memory://store/work")

    @task(name="reads")
    def reads(*uris: str):
        return list(uris)

    uris = [f"file://{secret}", "s3://private/x", "gs://other/x", "memory://store/work/in/x"]
    default = LargePayloads(store, directory=tmp_path / "tasks", download=["memory://store/work/in/"])
    put(store, uris[-1])
    result = ran(default, reads, *uris)
    assert result.value[:3] == uris[:3]
    allowed = LargePayloads(store, directory=tmp_path / "tasks", download=[f"file://{tmp_path}/"])

    @task(name="content")
    def content(uri: str):
        return Path(uri).read_text()

    assert ran(allowed, content, uris[0]).value == "hunter2"


def test_files_expire_unless_the_output_is_persistent(tmp_path):
    store = ObjectStore("memory://store")
    payloads = LargePayloads(store, directory=tmp_path, file_ttl=3600)

    @task(name="writes")
    def writes():
        path = task_directory() / "x"
        path.write_text("x")
        return path

    assert "/files/20" in ran(payloads, writes).value
    assert "/files/kept/" in ran(payloads, writes.options(persistent_output=True)).value


def test_other_directories_may_be_uploaded_from(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "x.txt").write_text("shared")
    store = ObjectStore("memory://store")
    payloads = LargePayloads(store, directory=tmp_path / "tasks", upload_from=[shared])

    @task(name="shares")
    def shares():
        return str(shared / "x.txt")

    assert get(store, ran(payloads, shares).value) == b"shared"


# What goes wrong.


@pytest.fixture
def attempts() -> list[int]:
    return []


@pytest.fixture
def opens(attempts) -> Any:
    @task(name="opens", retry=ONCE_MORE)
    def opens(source: str) -> int:
        attempts.append(1)
        return len(Path(source).read_bytes())

    return opens


def failed(payloads: LargePayloads, handler: Any, *args: Any) -> tuple[str, str, bool]:
    """Code and text of how it failed, and that the worker went on to the next task."""

    @task(name="after")
    def after():
        return "alive"

    with Client(BROKER) as client:
        handle = client.submit(handler, *args)
        Worker(BROKER, tasks=[handler, after], middleware=[payloads]).run_until_idle(30)
        follower = client.submit(after)
        Worker(BROKER, tasks=[handler, after], middleware=[payloads]).run_until_idle(30)
        assert follower.result(10) == "alive"
        error = handle.wait(10).error
    assert error is not None
    text = f"{error.message}{error.traceback}"
    assert "hunter2" not in text
    assert "AKIATEST" not in text
    return error.code, error.message, error.retryable


def test_a_key_that_is_not_there(payloads, store, opens, attempts):
    code, message, retryable = failed(payloads, opens, f"{store.root.uri}/nothing.png")
    assert (code, retryable, attempts) == ("OBJECT_NOT_FOUND", False, [])
    assert f"{store.root.uri}/nothing.png" in message


def test_a_bucket_that_is_not_there(s3_store, tmp_path):
    payloads = LargePayloads(
        ObjectStore("s3://never-made/x", **network_of(s3_store())),
        directory=tmp_path,
    )

    @task(name="writes")
    def writes():
        path = task_directory() / "x"
        path.write_text("x")
        return path

    code, message, retryable = failed(payloads, writes)
    assert (code, retryable) == ("OBJECT_NOT_FOUND", False)
    assert "no such bucket" in message


def network_of(store: ObjectStore) -> dict[str, Any]:
    return {"endpoint_url": store._endpoint, "access_key": "AKIATEST", "secret_key": "hunter2"}


def test_the_store_is_away(tmp_path, opens, attempts):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        store = ObjectStore("s3://bucket", endpoint_url=url, access_key="AKIATEST", secret_key="hunter2", retries=0)
        code, message, retryable = failed(LargePayloads(store, directory=tmp_path), opens, "s3://bucket/x")
    assert (code, retryable, attempts) == ("OBJECT_STORE_UNREACHABLE", True, [])
    assert "reading" not in message
    assert url in message


def test_the_store_comes_back(s3_store, tmp_path, attempts):
    """An attempt that found the store away is tried again as the policy says."""
    store = s3_store(timeout=1, retries=0)
    uri = put(store, f"{store.root.uri}/x", b"back")
    payloads = LargePayloads(Away(store.root.uri, times=1, **network_of(store)), directory=tmp_path)

    @task(name="patient", retry=ONCE_MORE)
    def patient(source: str) -> str:
        attempts.append(1)
        return Path(source).read_text()

    assert ran(payloads, patient, uri).value == "back"
    assert attempts == [1]


class Away(ObjectStore):
    """Asks a port on which nobody listens for some times first."""

    def __init__(self, *args: Any, times: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.times = times
        self.nowhere = ObjectStore(*args, **{**options, "endpoint_url": "http://127.0.0.1:9", "retries": 0})

    async def find(self, location):
        if self.times:
            self.times -= 1
            return await self.nowhere.find(location)
        return await super().find(location)


def test_the_store_does_not_answer(s3_service, s3_store, tmp_path, opens, attempts):
    payloads = LargePayloads(s3_store(timeout=0.3, retries=0), directory=tmp_path)
    s3_service.pause()
    try:
        code, _, retryable = failed(payloads, opens, f"{s3_store().root.uri}/x")
    finally:
        s3_service.resume()
    assert (code, retryable, attempts) == ("OBJECT_STORE_UNREACHABLE", True, [])


def test_the_store_denies(s3_store, s3_denies, tmp_path, opens, attempts):
    payloads = LargePayloads(s3_store(), directory=tmp_path)
    code, message, retryable = failed(payloads, opens, f"{s3_store().root.uri}/x")
    assert (code, retryable, attempts) == ("OBJECT_STORE_DENIED", False, [])
    assert "credentials" in message


class Meddling(ObjectStore):
    """Does something to the object after its first part was read."""

    meddle: Callable[[Any], Any]

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.parts = asyncio.Lock()
        self.meddled: set[int] = set()

    async def read(self, found, start, end):
        async with self.parts:
            part = await super().read(found, start, end)
            if id(found) not in self.meddled:
                self.meddled.add(id(found))
                await self.meddle(found)
        return part


@pytest.mark.parametrize(
    ("how", "code", "again"), [("gone", "OBJECT_NOT_FOUND", False), ("new", "OBJECT_CHANGED", True)]
)
def test_an_object_that_vanishes_or_changes_while_it_is_read(s3_store, tmp_path, opens, attempts, how, code, again):
    other = s3_store()
    store = Meddling(other.root.uri, **network_of(other), retries=0)

    async def meddle(found):
        if how == "gone":
            await other.delete([found.location])
        else:
            await other.upload(found.location, secrets.token_bytes(1000) * 40_000)

    store.meddle = meddle
    uri = put(other, f"{other.root.uri}/large", b"x" * (40 << 20))
    payloads = LargePayloads(store, directory=tmp_path)
    assert failed(payloads, opens, uri)[::2] == (code, again)
    assert attempts == []
    assert list(tmp_path.glob("run-*/*")) == []


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("way", ["dots", "link", "folder link"])
def test_a_path_that_leaves_the_directory_is_refused(tmp_path, kind, way):
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2")
    store = ObjectStore("memory://store")

    @task(name="leaves", retry=ONCE_MORE)
    def leaves():
        here = task_directory()
        if way == "dots":
            return kind(f"{here}/../../../secret.txt")
        inside = here / "out"
        inside.mkdir()
        (inside / "link.txt").symlink_to(secret)
        return kind(inside / "link.txt" if way == "link" else inside)

    code, message, retryable = failed(LargePayloads(store, directory=tmp_path / "tasks"), leaves)
    assert (code, retryable) == ("PATH_OUTSIDE_DIRECTORY", False)
    assert "task_directory()" in message
    assert keys(store) == []


def test_a_path_elsewhere_or_of_nothing_is_refused(tmp_path):
    @task(name="elsewhere")
    def elsewhere(name: str):
        return Path(name)

    payloads = LargePayloads("memory://store", directory=tmp_path)
    assert failed(payloads, elsewhere, "/etc/hostname")[0] == "PATH_OUTSIDE_DIRECTORY"

    @task(name="nothing")
    def nothing():
        return task_directory() / "never-written"

    code, message, retryable = failed(payloads, nothing)
    assert (code, retryable) == ("OBJECT_REFUSED", False)
    assert "never-written" in message


@pytest.mark.parametrize("uri", ["s3://bucket/a/../b", "s3://bucket//b", "s3:///x", "s3://key:hunter2@bucket/x"])
def test_uris_that_name_no_object_are_refused(tmp_path, opens, attempts, uri):
    code, _, retryable = failed(LargePayloads("memory://store", directory=tmp_path), opens, uri)
    assert (code, retryable, attempts) == ("OBJECT_REFUSED", False, [])


def test_a_file_that_is_too_large_is_not_fetched(tmp_path, opens, attempts):
    store = ObjectStore("memory://store")
    payloads = LargePayloads(store, directory=tmp_path, max_file_size=8)
    code, message, _ = failed(payloads, opens, put(store, "memory://store/x"))
    assert (code, attempts) == ("OBJECT_REFUSED", [])
    assert "9 bytes" in message
    assert failed(payloads, opens, "memory://store/")[0] == "OBJECT_REFUSED"


def test_nothing_secret_is_shown(caplog):
    store = ObjectStore("s3://b", access_key="AKIATEST", secret_key="hunter2", session_token="hunter3")
    with caplog.at_level(logging.DEBUG):
        shown = f"{store!r} {LargePayloads(store)!r} {caplog.text}"
    assert "AKIA" not in shown
    assert "hunter" not in shown
    with pytest.raises(InvalidOptionError) as error:
        ObjectStore("s3://b", endpoint_url="http://me:hunter2@host")
    assert "hunter2" not in str(error.value)
    with pytest.raises(InvalidOptionError) as error:
        ObjectStore("s3://me:hunter2@bucket/x")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"store": "http://x"}, "url"),
        ({"store": "s3://"}, "url"),
        ({"store": 7}, "url"),
        ({"download": "s3://"}, "download"),
        ({"download": ["x"]}, "download"),
        ({"transfers": 0}, "transfers"),
        ({"max_file_size": "1 GB"}, "max_file_size"),
        ({"file_ttl": 0}, "file_ttl"),
        ({"upload_from": "/srv/out"}, "upload_from"),
        ({"upload_from": Path("/srv/out")}, "upload_from"),
        ({"upload_from": [7]}, "upload_from"),
        ({"directory": 7}, "directory"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, word):
    with pytest.raises(InvalidOptionError, match=word):
        LargePayloads(**{"store": "memory://x", **options})


def test_credentials_come_in_pairs():
    with pytest.raises(InvalidOptionError, match="both access_key and secret_key") as error:
        ObjectStore("s3://b", secret_key="hunter2")
    assert "hunter2" not in str(error.value)
