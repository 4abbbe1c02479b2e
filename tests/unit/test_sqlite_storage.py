"""The file: how it is set up, and what happens when it is wrong, full, or taken away."""

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_kit import in_process, inside, look, make, message, open_and_submit, opened, until

from tranship.backends.sqlite._file import file_system, refuse_network
from tranship.envelope import Receipt
from tranship.errors import (
    BrokerGone,
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    InvalidURLError,
    StorageCorrupt,
    StorageFull,
)
from tranship.ports import ConnectionEvent


async def test_pragmas(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        connection = inside(backend).store.connection
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "auto_vacuum",
                "secure_delete",
                "wal_autocheckpoint",
                "temp_store",
                "synchronous",
            )
        }
    assert found == {
        "journal_mode": "wal",
        "auto_vacuum": 2,
        "secure_delete": 0,
        "wal_autocheckpoint": 0,
        "temp_store": 2,
        "synchronous": 2,
    }


@pytest.mark.parametrize(("durability", "after_submit"), [("power", 2), ("process", 1)])
async def test_only_what_must_last_is_synced(tmp_path, durability, after_submit):
    async with opened(tmp_path / "a.db", durability=durability) as backend:
        connection = inside(backend).store.connection
        await backend.submitter().submit([message()])
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == after_submit
        await backend.consumer(["q"]).receive(1, 0)
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1


async def test_closing_leaves_the_database_and_its_lock_only(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message()])
        places = inside(backend)._pipe.places
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.db", "a.db.lock"]
    assert not any(place.exists() for place in places)


async def test_descriptors_and_threads_return_to_the_baseline(tmp_path):
    import threading

    async with opened(tmp_path / "warm.db"):
        pass
    before = open_files(), threading.active_count()
    for _ in range(3):
        async with opened(tmp_path / "a.db") as backend:
            await backend.submitter().submit([message()])
    assert (open_files(), threading.active_count()) == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_first_open_by_eight_processes(tmp_path):
    path = str(tmp_path / "a.db")
    codes = await asyncio.gather(*(in_process(open_and_submit, path, 5) for _ in range(8)))
    assert codes == [0] * 8
    assert look(path, "SELECT count(*) FROM task") == [(40,)]
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


# --- taken away while open ---


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_vanished_file_is_gone(tmp_path, how):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        await backend.submitter().submit([message()])
        take_away(path, how)
        with pytest.raises(BrokerGone, match=r"a\.db"):
            await backend.submitter().submit([message()])


async def test_vanished_file_wakes_who_waits(tmp_path):
    path = tmp_path / "a.db"
    events = []
    async with opened(path) as backend:
        backend.on_event(lambda event, generation: events.append(event))
        waiting = asyncio.create_task(backend.consumer(["q"]).receive(1, 60.0))
        await until(lambda: inside(backend)._look_timer is not None)
        take_away(path, "deleted")
        with pytest.raises(BrokerGone):
            async with asyncio.timeout(3):
                await waiting
    assert events == [ConnectionEvent.LOST]


def take_away(path: Path, how: str) -> None:
    if how == "replaced":
        other = path.with_name("other.db")
        with contextlib.closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE t(x)")
        other.replace(path)
    elif how == "moved":
        path.rename(path.with_name("elsewhere.db"))
    else:
        path.unlink()


# --- wrong from the start ---


async def test_garbage_is_no_database(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database, " * 500)
    with pytest.raises(StorageCorrupt, match="not an SQLite database") as raised:
        await make(path).open()
    assert str(path) in str(raised.value)
    assert isinstance(raised.value.__cause__, sqlite3.DatabaseError)


async def test_zero_length_file_becomes_a_database(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    async with opened(path) as backend:
        assert isinstance((await backend.submitter().submit([message()]))[0], Receipt)


async def test_other_applications_database_is_left_alone(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers(x)")
    with pytest.raises(BrokerRefused, match="another application"):
        await make(path).open()
    assert look(path, "SELECT name FROM sqlite_master") == [("customers",)]
    assert look(path, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize(("layout", "cure"), [(99, "upgrade tranship"), (1, "the version that made it")])
async def test_another_layout_is_refused(tmp_path, layout, cure):
    path = tmp_path / "a.db"
    async with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={layout}")
    with pytest.raises(BrokerRefused, match=f"layout {layout}, .*{cure}"):
        await make(path).open()


async def test_damaged_page_is_corrupt(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        await backend.submitter().submit([message(args=["x" * 900]) for _ in range(200)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    backend = make(path)
    with pytest.raises(StorageCorrupt, match=r"a\.db"):
        await open_and_use(backend)
    await backend.aclose()


async def open_and_use(backend):
    await backend.open()
    (answer,) = await backend.submitter().submit([message()])
    if not isinstance(answer, Receipt):
        raise answer


async def test_missing_directory(tmp_path):
    with pytest.raises(BrokerRefused, match="does not exist"):
        await make(tmp_path / "nowhere" / "a.db").open()


def test_memory_and_hosts_are_no_files(tmp_path):
    from tranship.backends.sqlite._file import locate
    from tranship.settings import BrokerURL

    for text in ("sqlite:///:memory:", "sqlite://host/a.db"):
        with pytest.raises(InvalidURLError):
            locate(BrokerURL.parse(text), allow_network_fs=False)


async def test_default_file_is_in_the_state_directory(tmp_path):
    from sqlite_kit import Shared

    from tranship.backends.sqlite import make_backend
    from tranship.settings import BackendConfig, BrokerURL

    backend = make_backend(BackendConfig(BrokerURL.parse("sqlite://"), Shared()))
    await backend.open()
    assert Path(backend.native["path"]).is_relative_to(tmp_path)
    await backend.aclose()


def test_bad_options_name_themselves(tmp_path):
    with pytest.raises(InvalidOptionError, match="aging"):
        make(tmp_path / "a.db", aging=-1)
    with pytest.raises(InvalidOptionError, match="durability"):
        make(tmp_path / "a.db", durability="maybe")


# --- read-only and full ---


def open_without_rights(path: str) -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)

    async def run() -> None:
        with pytest.raises(BrokerRefused) as raised:
            await make(path).open()
        assert path in str(raised.value)

    asyncio.run(run())


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_read_only_is_refused(public_directory, what):
    path = public_directory / "a.db"
    async with opened(path):
        pass
    take_rights(path, what)
    assert await in_process(open_without_rights, str(path)) == 0


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory another user can enter, unlike pytest's."""
    directory = Path(tempfile.mkdtemp())
    yield directory
    directory.chmod(0o700)
    shutil.rmtree(directory)


def take_rights(path: Path, what: str) -> None:
    path.with_name("a.db.lock").chmod(0o666)
    path.chmod(0o444)
    path.parent.chmod(0o777 if what == "file" else 0o555)


async def test_full_database_refuses_and_recovers(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        submitter = backend.submitter()
        await submitter.submit([message()])
        connection = inside(backend).store.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}").fetchall()
        answers = await submitter.submit([message(args=["x" * 1000]) for _ in range(50)])
        assert {type(answer) for answer in answers} == {StorageFull}
        assert all(answer.retryable for answer in answers)
        assert len({id(answer) for answer in answers}) == 50
        connection.execute("PRAGMA max_page_count=1000000").fetchall()
        again = await submitter.submit([message(args=["x" * 1000]) for _ in range(50)])
        assert {type(answer) for answer in again} == {Receipt}
        assert (await backend.inspector().queues())[0].ready[1] == 51


def fill_up(path: str) -> None:
    async def run() -> None:
        async with opened(path) as backend:
            await backend.submitter().submit([message()])
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
            answers = []
            while not any(isinstance(answer, StorageFull) for answer in answers):
                answers = await backend.submitter().submit([message(args=["x" * 20_000])])
                assert not isinstance(answers[0], BrokerUnreachable)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            (answer,) = await backend.submitter().submit([message()])
            assert isinstance(answer, Receipt)

    asyncio.run(run())


async def test_file_size_limit_is_full(tmp_path):
    path = str(tmp_path / "a.db")
    assert await in_process(fill_up, path) == 0
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


# --- network file systems ---

TABLE = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:40 / /mnt/team rw - nfs4 server:/export rw
41 40 0:41 / /mnt/team/fast rw - xfs /dev/vdb rw
42 22 0:42 / /mnt/with\\040space rw - cifs //server/share rw
43 22 0:43 / /home/me/cloud rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/a.db", "ext4"),
        ("/mnt/team/a.db", "nfs4"),
        ("/mnt/teammates/a.db", "ext4"),
        ("/mnt/team/fast/a.db", "xfs"),
        ("/mnt/with space/a.db", "cifs"),
        ("/home/me/cloud/deep/a.db", "fuse.sshfs"),
    ],
)
def test_file_system_of_a_path(path, kind):
    assert file_system(Path(path), TABLE) == kind


def test_network_file_system_is_refused():
    with pytest.raises(BrokerRefused, match=r"nfs4.*allow_network_fs"):
        refuse_network(Path("/mnt/team/a.db"), TABLE)
    refuse_network(Path("/mnt/team/fast/a.db"), TABLE)


async def test_files_are_for_their_owner_only(tmp_path):
    path = tmp_path / "a.db"
    before = os.umask(0)
    try:
        async with opened(path) as backend:
            await backend.submitter().submit([message()])
            found = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert found == dict.fromkeys(("a.db", "a.db-wal", "a.db-shm", "a.db.lock"), 0o600)


async def test_a_file_that_is_shared_on_purpose_stays_shared(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    path.chmod(0o660)
    async with opened(path) as backend:
        await backend.submitter().submit([message()])
        found = {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    assert found == {0o660}


async def test_the_default_files_directory_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    backend = make("")
    await backend.open()
    await backend.aclose()
    assert (tmp_path / "state" / "tranship").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["link", "dangling link", "hard link", "directory", "pipe"])
async def test_a_lock_that_is_no_file_of_its_own_is_refused(tmp_path, what):
    lock, victim = tmp_path / "a.db.lock", tmp_path / "victim"
    if what != "dangling link":
        victim.write_text("precious")
    if what in ("link", "dangling link"):
        lock.symlink_to(victim)
    elif what == "hard link":
        lock.hardlink_to(victim)
    elif what == "directory":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(BrokerRefused, match=r"a\.db\.lock"):
        await make(tmp_path / "a.db").open()
    assert what == "dangling link" or victim.read_text() == "precious"
    assert victim.exists() == (what != "dangling link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_lock_of_another_user_is_refused(tmp_path):
    lock = tmp_path / "a.db.lock"
    lock.touch()
    os.chown(lock, 12345, 12345)
    with pytest.raises(BrokerRefused, match="another user"):
        await make(tmp_path / "a.db").open()
    # Unless the database is that user's, too.
    os.chown(tmp_path / "a.db", 12345, 12345)
    async with opened(tmp_path / "a.db") as backend:
        await backend.ping()
