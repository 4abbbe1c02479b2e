"""Files in S3: what params name is downloaded, what handlers return is uploaded; against a server, by HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from avtomatika_kit import answer

from tranship import Client, FixedBackoff, RetryPolicy
from tranship.compat.avtomatika import FileMetadata, TaskFiles, Worker
from tranship.testing.background import BackgroundWorker

TWICE = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))


class Bucket:
    """What is in the worker's bucket, as Amazon's own library has it."""

    def __init__(self, variables):
        self.name = variables["S3_DEFAULT_BUCKET"]
        self._s3 = boto3.client(
            "s3",
            endpoint_url=variables["S3_ENDPOINT_URL"],
            aws_access_key_id=variables["S3_ACCESS_KEY"],
            aws_secret_access_key=variables["S3_SECRET_KEY"],
            region_name="us-east-1",
        )

    def put(self, key, content):
        self._s3.put_object(Bucket=self.name, Key=key, Body=content)
        return f"s3://{self.name}/{key}"

    def get(self, uri):
        assert uri.startswith(f"s3://{self.name}/")
        return self._s3.get_object(Bucket=self.name, Key=uri.removeprefix(f"s3://{self.name}/"))["Body"].read()

    def keys(self):
        return [one["Key"] for one in self._s3.list_objects_v2(Bucket=self.name).get("Contents", [])]


@pytest.fixture
def variables(s3_service, s3_bucket):
    return {
        "S3_ENDPOINT_URL": s3_service.url,
        "S3_ACCESS_KEY": "AKIATEST",
        "S3_SECRET_KEY": "hunter2",
        "S3_DEFAULT_BUCKET": s3_bucket,
    }


@pytest.fixture
def bucket(variables):
    return Bucket(variables)


@pytest.fixture
def payloads(tmp_path):
    """The worker's WORKER_PAYLOAD_DIR."""
    return tmp_path / "payloads"


@pytest.fixture
def worker(url, variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Worker()


def run(worker, client, skill, params=None, **options):
    with BackgroundWorker(worker.worker()):
        return answer(client, skill, params, **options)


def left(payloads):
    """Files that are still in the directory; the locks of living workers apart."""
    return [path for path in payloads.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_s3_values_in_params_are_downloaded_and_replaced_by_paths(worker, client, bucket, payloads):
    uris = [bucket.put("in/a.txt", b"one"), bucket.put("in/b.txt", b"two")]

    @worker.task("read")
    async def read(params, **kwargs):
        paths = [Path(params["file"]), Path(params["more"][0]["file"])]
        assert all(path.is_relative_to(payloads) for path in paths)
        return {"status": "success", "data": [*(path.read_text() for path in paths), params["other"]]}

    params = {"file": uris[0], "more": [{"file": uris[1]}], "other": "https://s3/c"}
    result = run(worker, client, "read", params)
    assert (result.status, result.value) == ("success", ["one", "two", "https://s3/c"])
    assert left(payloads) == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_files_of_the_payload_directory_are_uploaded_and_replaced_by_uris(kind, worker, client, bucket, payloads):
    def written(params):
        payloads.mkdir(exist_ok=True)
        (payloads / "out.txt").write_text(params["text"])
        return {"status": "reviewed", "data": {"file": str(payloads / "out.txt"), "other": "/etc/hostname"}}

    async def awaited(params):
        return written(params)

    worker.task("write")(written if kind == "def" else awaited)
    result = run(worker, client, "write", {"text": "loud"})
    assert (result.status, result.value["other"]) == ("reviewed", "/etc/hostname")
    assert bucket.get(result.value["file"]) == b"loud"


def test_a_folder_comes_and_goes_as_a_whole(worker, client, bucket):
    bucket.put("in/a.txt", b"one")
    bucket.put("in/deep/b.txt", b"two")

    @worker.task("copy")
    def copy(params, files: TaskFiles):
        source, target = Path(params["folder"]), Path(files.get_root_sync()) / "result"
        for path in source.rglob("*.txt"):
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes() * 2)
        return {"data": {"folder": str(target)}}

    uri = run(worker, client, "copy", {"folder": f"s3://{bucket.name}/in/"}).value["folder"]
    assert [bucket.get(f"{uri}{name}") for name in ("a.txt", "deep/b.txt")] == [b"oneone", b"twotwo"]


@pytest.mark.parametrize("kind", ["async def", "wrapped", "middleware"])
def test_what_is_written_into_the_task_s_files_is_uploaded_before_these_are_removed(
    kind, worker, client, bucket, payloads
):
    uri = bucket.put("in/a.txt", b"one")

    async def write(params, files):
        await files.write("out.txt", "mine")
        # Downloads are in the task's directory, as the package has it.
        return {"data": [await files.path_to("out.txt"), await files.list(), await files.read(params["file"])]}

    async def direct(params, files: TaskFiles):
        return await write(params, files)

    def wrapped(params, files: TaskFiles):
        return write(params, files)

    async def around(context, call_next):
        assert await asyncio.to_thread(Path(context["params"]["file"]).exists)
        return await call_next()

    worker.task("work")(wrapped if kind == "wrapped" else direct)
    if kind == "middleware":
        worker.add_middleware(around)
    file, names, read = run(worker, client, "work", {"file": uri}).value
    assert bucket.get(file) == b"mine"
    assert (names, read) == (["a.txt", "out.txt"], "one")
    assert left(payloads) == []


def test_handlers_upload_and_download_by_themselves(worker, client, bucket):
    bucket.put("in/a.txt", b"one")

    @worker.task("work")
    async def work(params, files: TaskFiles):
        stored = await files.write_json("a.json", {"x": 1})
        await files.write("dir/b.txt", "12345")
        await files.write("dir/deep/c.txt", "67")
        again = await files.download_file(stored.uri, "again.json", stored)
        fetched = await files.download_file("in/a.txt", "deep/a.txt")
        with pytest.raises(ValueError, match="has 3 bytes; expected 4"):
            await files.download_file("in/a.txt", "b.txt", FileMetadata("", 4))
        assert not await files.exists("b.txt")
        for wrong, kind in (("dir", IsADirectoryError), ("nothing", FileNotFoundError), ("../x", PermissionError)):
            with pytest.raises(kind):
                await files.upload_file(wrong)
        with pytest.raises(NotADirectoryError):
            await files.upload_dir("again.json")
        return {
            "data": {
                "file": stored,
                "dir": await files.upload_dir("dir"),
                "again": await files.read(again),
                "fetched": await files.read(fetched),
                "same": await files.path_to("s3://any/where/a.json") == await files.path_to("a.json"),
            }
        }

    value = run(worker, client, "work", headers={"job_id": "job-7"}).value
    stored = value["file"]
    assert (stored["uri"], stored["size"]) == (f"s3://{bucket.name}/job-7/a.json", 12)
    assert re.fullmatch(r"[0-9a-f]{32}", stored["etag"])
    assert bucket.get(stored["uri"]).decode() == value["again"] == '{\n  "x": 1\n}'
    assert (value["dir"]["uri"], value["dir"]["size"]) == (f"s3://{bucket.name}/job-7/dir/", 7)
    assert bucket.get(f"{value['dir']['uri']}deep/c.txt") == b"67"
    assert (value["fetched"], value["same"]) == ("one", True)


def test_a_job_s_id_chooses_no_other_folder(worker, client, bucket):
    @worker.task("work")
    async def work(params, files: TaskFiles):
        return {"data": (await files.write_json("a.json", 1)).uri}

    uri = run(worker, client, "work", headers={"job_id": "../../evil"}).value
    assert re.fullmatch(r"[0-9a-f]{64}/a\.json", uri.removeprefix(f"s3://{bucket.name}/"))


@pytest.mark.parametrize("there", ["elsewhere", "gone"])
def test_a_link_out_of_the_directory_is_not_followed(there, worker, client, bucket, tmp_path):
    (tmp_path / "secret.txt").write_text("hush")

    @worker.task("work")
    async def work(params, files: TaskFiles):
        root = Path(await files.get_root())
        (root / "dir").mkdir()
        (root / "dir" / "link").symlink_to(tmp_path / ("secret.txt" if there == "elsewhere" else "nothing"))
        if params["itself"]:
            await files.upload_dir("dir")
        return {"data": str(root / "dir")}

    with BackgroundWorker(worker.worker()):
        returned = answer(client, "work", {"itself": False})
        uploaded = answer(client, "work", {"itself": True}, retry=RetryPolicy(max_attempts=1))
    assert returned.error.code == "PATH_OUTSIDE_DIRECTORY"
    assert uploaded.error.error_type == "PermissionError"
    assert bucket.keys() == []


def test_a_key_that_is_not_there_is_a_failure_that_says_so(worker, client, bucket):
    worker.task("work")(lambda params: "done")
    with BackgroundWorker(worker.worker()):
        result = answer(client, "work", {"file": f"s3://{bucket.name}/nothing"}, retry=TWICE)
        assert (result.error.code, result.attempt) == ("OBJECT_NOT_FOUND", 0)
        assert f"s3://{bucket.name}/nothing" in result.error.message
        assert answer(client, "work", {}).value == "done"


def test_wrong_credentials_are_a_failure_without_them(worker, client, bucket, s3_denies):
    worker.task("work")(lambda params: "done")
    result = run(worker, client, "work", {"file": f"s3://{bucket.name}/a"})
    assert result.error.code == "OBJECT_STORE_DENIED"
    assert "hunter2" not in str(result.error)


def test_nothing_is_fetched_for_a_task_that_there_is_no_capacity_for(url, worker, client, bucket, monkeypatch):
    monkeypatch.setattr("tranship.compat.avtomatika._capacity.NO_ROOM", 0.05)
    asked = []

    def room(skill):
        asked.append(skill)
        if len(asked) == 2:
            bucket.put("late.txt", b"late")  # it would have failed to be fetched before
        return len(asked) > 1

    worker = Worker(capacity_checker=room)
    worker.task("work")(lambda params: Path(params["file"]).read_text())
    result = run(worker, client, "work", {"file": f"s3://{bucket.name}/late.txt"})
    assert (result.value, result.attempt, asked) == ("late", 0, ["work", "work"])


def test_the_region_is_read(worker, monkeypatch):
    worker.task("work")(lambda params: "done")
    monkeypatch.setattr(worker.config, "S3_REGION", "eu-central-1")
    assert worker.worker() is not None
    assert worker.store is not None
    assert "hunter2" not in repr(worker.store)


def test_a_process_with_these_variables_transfers_files(variables, bucket, tmp_path):
    (tmp_path / "shouter.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from tranship.compat.avtomatika import Worker\n"
        "worker = Worker()\n"
        "@worker.task('shout')\n"
        "async def shout(params, **kwargs):\n"
        "    loud = Path(os.environ['WORKER_PAYLOAD_DIR'], 'loud.txt')\n"
        "    loud.write_text(Path(params['file']).read_text().upper())\n"
        "    return {'status': 'success', 'data': {'file': str(loud)}}\n"
        "worker.run()\n"
    )
    url = f"sqlite:///{tmp_path}/jobs.db"
    environ = {**os.environ, **variables, "ORCHESTRATOR_URL": url, "WORKER_PAYLOAD_DIR": str(tmp_path / "files")}
    with subprocess.Popen([sys.executable, "shouter.py"], cwd=tmp_path, env=environ, stderr=-1, text=True) as process:
        try:
            assert any("consumes shout" in line for line in iter(process.stderr.readline, ""))
            with Client(url) as client:
                result = answer(client, "shout", {"file": bucket.put("a.txt", b"hello")})
            assert bucket.get(result.value["file"]) == b"HELLO"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
