import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tranship.testing.background import BackgroundWorker

TESTS = Path(__file__).parents[1]

TASKS = """
from tranship.task import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
async def fail(reason: str) -> None:
    raise LookupError(reason)
"""


@pytest.fixture
def tasks(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(mytasks=TASKS)
    return pytester


@pytest.fixture(autouse=True)
def _inner_configuration(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest("-p", "no:cacheprovider", *arguments)


def test_a_users_test_submits_and_gets_its_result(tasks: pytest.Pytester) -> None:
    tasks.makepyfile(
        """
        import pytest
        from mytasks import add, fail
        from tranship.errors import TaskFailed

        def test_value(tranship_client, tranship_worker):
            tranship_worker(add)
            assert tranship_client.submit(add, 2, y=3).result(timeout=5) == 5

        def test_failure(tranship_client, tranship_worker):
            tranship_worker(add, fail, max_concurrent_tasks=2)
            handle = tranship_client.submit(fail.options(retry=None), "nothing there")
            with pytest.raises(TaskFailed, match="nothing there"):
                handle.result(timeout=5)
        """
    )
    run(tasks).assert_outcomes(passed=2)


def test_each_test_has_a_broker_to_itself(tasks: pytest.Pytester) -> None:
    tasks.makepyfile(
        """
        from tranship.task import task

        ran = []

        @task
        def remember(which: str) -> None:
            ran.append(which)

        def test_first_leaves_a_task_behind(tranship_client):
            tranship_client.submit(remember, "first")

        def test_second_does_not_see_it(tranship_client, tranship_worker):
            handle = tranship_client.submit(remember, "second")
            tranship_worker(remember)
            handle.result(timeout=5)
            assert ran == ["second"]
        """
    )
    run(tasks).assert_outcomes(passed=2)


def test_the_developers_environment_does_not_slip_in(tasks: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", "nowhere://broker")
    monkeypatch.setenv("TRANSHIP_RESULT_URL", "nowhere://results")
    tasks.makepyfile(
        """
        from mytasks import add

        def test_value(tranship_client, tranship_worker):
            tranship_worker(add)
            assert tranship_client.submit(add, 2, 3).result(timeout=5) == 5
        """
    )
    run(tasks).assert_outcomes(passed=1)


def test_a_worker_that_cannot_start_fails_the_test_where_it_is_started(tasks: pytest.Pytester) -> None:
    tasks.makepyfile(
        """
        import pytest
        from mytasks import add
        from tranship.errors import UnknownSchemeError

        @pytest.fixture
        def tranship_url():
            return "nowhere://broker"

        def test_start(tranship_worker):
            with pytest.raises(UnknownSchemeError):
                tranship_worker(add)
        """
    )
    run(tasks).assert_outcomes(passed=1)


def test_a_worker_that_crashes_is_reported_after_the_test() -> None:
    from tranship.task import task
    from tranship.worker import Worker

    @task(name="test_pytest_plugin.nothing")
    def nothing() -> None:
        pass

    class Doomed(Worker):
        async def serve(self) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(super().serve())
                self.cut, self.loop = asyncio.Event(), asyncio.get_running_loop()
                await self.cut.wait()
                raise OSError("the cable was cut")

    worker = Doomed("memory://doomed", tasks=[nothing])
    background = BackgroundWorker(worker).start()
    worker.loop.call_soon_threadsafe(worker.cut.set)
    background._thread.join(5)
    with pytest.raises(ExceptionGroup) as caught:
        background.stop()
    assert caught.group_contains(OSError, match="the cable was cut")
    background.stop()


@pytest.fixture
def servers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody who brings a recipe of their own."""
    monkeypatch.syspath_prepend(str(TESTS))
    pytester.makeconftest(
        """
        import pytest
        from servers.echo import make_echo_recipe

        @pytest.fixture(scope="session")
        def tranship_recipes():
            return [make_echo_recipe(), make_echo_recipe(name="absent", binaries=["no-such-binary"])]
        """
    )
    return pytester


@pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")
def test_a_service_is_started_once_revived_and_closed_with_the_session(servers: pytest.Pytester) -> None:
    servers.makepyfile(
        """
        from pathlib import Path
        from servers.echo import ask

        def test_first(tranship_service):
            service = tranship_service("echo")
            assert ask(service.place.port, "one") == "one"
            Path("directory").write_text(str(service.place.directory))
            service.kill()

        def test_second(tranship_service):
            assert ask(tranship_service("echo").place.port, "saved") == "one,"
        """
    )
    run(servers).assert_outcomes(passed=2)
    assert not Path((servers.path / "directory").read_text()).exists()


@pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")
def test_a_server_that_ended_by_itself_tells_the_test_that_fails_of_it(servers: pytest.Pytester) -> None:
    servers.makepyfile(
        """
        import os, signal
        from servers.echo import ask

        def test_it(tranship_service):
            service = tranship_service("echo")
            os.kill(service.pid, signal.SIGKILL)
            while service.pid is not None:
                pass
            ask(service.place.port, "anybody there?")

        def test_next(tranship_service):
            assert tranship_service("echo").pid is not None
            assert False, "for a reason of its own"
        """
    )
    result = run(servers)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*- Server echo -*", "Test server 'echo' * ended by itself with status -9*", "*listening*"]
    )
    assert str(result.stdout).count("- Server echo -") == 1


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("absent", "failed")])
def test_an_absent_service_is_a_skip_or_where_required_a_failure(
    servers: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("TRANSHIP_TEST_REQUIRE", required)
    servers.makepyfile("def test_it(tranship_service): tranship_service('absent')")
    result = run(servers, "-rs")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(["*No 'absent' server for the tests: TRANSHIP_TEST_ABSENT_BIN is not set*"])


def test_a_service_that_nobody_knows_is_an_error_that_names_the_known_ones(servers: pytest.Pytester) -> None:
    servers.makepyfile("def test_it(tranship_service): tranship_service('ehco')")
    result = run(servers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*No recipe for a test server is called 'ehco'; known are absent, echo.*"])


BARE = """
import os, platform
from pathlib import Path
from tranship.testing.services import Wheel, _apt

Wheel.find = lambda self: ""
os.geteuid = lambda: 0
platform.freedesktop_os_release = lambda: {"ID": "debian"}
_apt._MEMORY = Path(__file__).with_name("memory")
"""


@pytest.fixture
def bare(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A Debian where we are root, that has none of the servers; its apt-get installs a program that does nothing."""
    pytester.makeconftest(BARE)
    folder = pytester.mkdir("bin")
    script = f"cd {folder}; echo $5 >> calls; test $5 = update || ln -s {sys.executable} redis-server"
    for name, text in {"apt-get": script, "dpkg-query": "exit 1"}.items():
        (folder / name).write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    # Each process starts quicker without what other distributions bring.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\naddopts = -p xdist -p tranship.testing.pytest_plugin\n")
    for name in os.environ:
        if name.startswith("TRANSHIP_TEST_"):
            monkeypatch.delenv(name)
    return pytester


LOOKS = """
import shutil
import pytest

@pytest.mark.parametrize("number", range(2))
def test_it(number):
    assert bool(shutil.which("redis-server")) is {there}
"""


@pytest.mark.skipif(os.name != "posix", reason="installs as POSIX does")
@pytest.mark.parametrize("processes", ["0", "2"])
def test_servers_are_installed_once_before_tests_are_handed_out(bare: pytest.Pytester, processes: str) -> None:
    bare.makepyfile(LOOKS.format(there=True))
    result = bare.runpytest_subprocess("-n", processes, "-o", "tranship_services=redis")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["Installing redis-server for the tests."])
    assert (bare.path / "bin" / "calls").read_text().split() == ["update", "install"]
    # And what is there is not installed again.
    bare.runpytest_subprocess("-n", processes, "-o", "tranship_services=redis").assert_outcomes(passed=2)
    assert (bare.path / "bin" / "calls").read_text().split() == ["update", "install"]


@pytest.mark.skipif(os.name != "posix", reason="installs as POSIX does")
@pytest.mark.parametrize("required", [True, False])
def test_a_server_that_cannot_be_installed_is_told_once(
    bare: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    (bare.path / "bin" / "apt-get").write_text("#!/bin/sh\necho E: no network\nexit 100\n")
    monkeypatch.setenv("TRANSHIP_TEST_REQUIRE", "redis" if required else "")
    bare.makepyfile(LOOKS.format(there=False))
    result = bare.runpytest_subprocess("-n", "2", "-o", "tranship_services=redis")
    shown = str(result.stdout) + str(result.stderr)
    assert shown.count("No 'redis' server for the tests: ") == 1
    assert "redis-server` failed: E: no network" in shown
    if required:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
    else:
        result.assert_outcomes(passed=2)


@pytest.mark.skipif(os.name != "posix", reason="installs as POSIX does")
def test_a_project_that_asks_for_no_server_gets_none(bare: pytest.Pytester) -> None:
    bare.makepyfile(LOOKS.format(there=False))
    bare.runpytest_subprocess("-n", "2").assert_outcomes(passed=2)
    bare.runpytest_subprocess("--collect-only", "-o", "tranship_services=redis")
    assert not (bare.path / "bin" / "calls").exists()


@pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")
def test_a_server_of_the_tests_own(servers: pytest.Pytester) -> None:
    servers.makepyfile(
        """
        from pathlib import Path
        from servers.echo import make_echo_recipe

        def test_it(tranship_service, tranship_own_service):
            first, second = tranship_own_service(make_echo_recipe()), tranship_own_service("echo")
            assert len({one.url for one in (first, second, tranship_service("echo"))}) == 3
            Path("directory").write_text(str(first.place.directory))

        def test_that_it_has_ended():
            assert not Path(Path("directory").read_text()).exists()

        def test_without_one(tranship_own_service):
            tranship_own_service(make_echo_recipe(name="absent", binaries=["no-such-binary"]))

        def test_with_somebody_elses(tranship_service, tranship_own_service, monkeypatch):
            monkeypatch.setenv("TRANSHIP_TEST_ECHO_URL", tranship_service("echo").url)
            tranship_own_service(make_echo_recipe())
        """
    )
    result = run(servers, "-rs")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(["*the echo that was given by URL is not ours to start and to harm*"])


def test_the_developers_settings_can_be_hidden_from_all_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", "nowhere://broker")
    monkeypatch.setenv("TRANSHIP_TEST_REQUIRE", "memory")
    pytester.makepyfile(
        """
        import os

        def test_it(tmp_path):
            assert [name for name in os.environ if name.startswith("TRANSHIP_")] == ["TRANSHIP_TEST_REQUIRE"]
            assert os.environ["XDG_STATE_HOME"].startswith(str(tmp_path))
        """
    )
    run(pytester, "-o", "usefixtures=tranship_environment").assert_outcomes(passed=1)


def test_loading_the_plugin_loads_nothing_of_tranship() -> None:
    script = """
import sys, pytest, tranship
before = set(sys.modules)
import tranship.testing.pytest_plugin
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] != "uuid"))
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert [name for name in loaded.split() if name.startswith("tranship")] == [
        "tranship.testing",
        "tranship.testing.pytest_plugin",
    ]
    assert not {"sqlite3", "pydantic", "typer", "rich"} & set(loaded.split())


def test_the_fixtures_of_an_application_start_no_server_and_cut_no_wire(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        from tranship.task import task

        @task
        def double(value: int) -> int:
            return 2 * value

        def test_it(tranship_client, tranship_worker, tranship_environment):
            tranship_worker(double)
            assert tranship_client.submit(double, 21).result(timeout=20) == 42
            assert sorted(name for name in sys.modules if name.startswith("tranship.testing")) == [
                "tranship.testing", "tranship.testing.background", "tranship.testing.pytest_plugin"
            ]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
