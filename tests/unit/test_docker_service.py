"""Containers, with a stand-in for testcontainers: the container is a process of ours."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from servers.echo import ask, make_echo_recipe
from tranship.errors import UnsupportedError
from tranship.testing.services import (
    RECIPES,
    DockerService,
    ProcessService,
    ServiceFailed,
    ServiceNotFound,
    accepts,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the container is a POSIX process group")


class Container:
    """What testcontainers and Docker offer, over the echo server."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.command: list[str] = []
        self.environ: dict[str, str] = {}
        self.paused = False
        made.append(self)

    def with_bind_ports(self, inside: int, outside: int) -> Container:
        self.ports = (inside, outside)
        return self

    def with_envs(self, **environ: str) -> Container:
        self.environ = environ
        return self

    def with_command(self, command: list[str]) -> Container:
        self.command = command
        return self

    def start(self) -> None:
        if self.image == "no-such-image":
            raise RuntimeError("pull access denied")
        if not hasattr(self, "process"):
            recipe = make_echo_recipe(*(["--refuse-to-start"] if self.image == "broken" else []))
            self.process = ProcessService(recipe)
            # As if Docker forwarded the port.
            self.process._place = type(self.process.place)(port=self.ports[1], directory=self.process._directory)
            self.process._launch = recipe.launch(recipe.binaries[0], self.process.place)
        if self.image != "broken":
            self.process.start()

    def get_wrapped_container(self) -> Container:
        return self

    def get_container_host_ip(self) -> str:
        return "localhost"

    def stop(self, timeout: int | None = None) -> None:
        assert not self.paused, "Docker does not stop what is paused"
        # Also the name of testcontainers' own way to remove one, also one that was never started.
        if timeout is not None:
            self.process.stop()
        elif hasattr(self, "process"):
            self.process.close()

    def kill(self) -> None:
        assert not self.paused, "Docker does not kill what is paused"
        self.process.kill()

    def wait(self, timeout: float) -> None:
        assert self.process.pid is None

    def pause(self) -> None:
        self.paused = True
        self.process.pause()

    def unpause(self) -> None:
        self.paused = False
        self.process.resume()

    def logs(self) -> bytes:
        return self.process.logs().encode()


made: list[Container] = []


@pytest.fixture
def testcontainers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made.clear()
    for name in ("testcontainers", "testcontainers.core", "testcontainers.core.container"):
        module: Any = types.ModuleType(name)
        module.DockerContainer = Container
        monkeypatch.setitem(sys.modules, name, module)
    yield
    for container in made:
        if hasattr(container, "process"):
            container.process.close()


@pytest.fixture
def service(testcontainers: None) -> Iterator[DockerService]:
    service = DockerService(make_echo_recipe(), "echo:1", port=7, command=["echo"], environ={"A": "b"})
    service.start()
    yield service
    service.close()


def test_a_container_is_started_once_and_reached_on_a_port_of_the_host(service: DockerService) -> None:
    assert service.start() == service.url == f"tcp://127.0.0.1:{service.place.port}"
    (container,) = made
    assert (container.command, container.environ) == (["echo"], {"A": "b"})
    assert container.ports == (7, service.place.port)
    assert ask(service.place.port, "hello") == "hello"
    assert "listening" in service.logs()
    assert (service.name, service.controllable, service.client_count() >= 1) == ("echo", True, True)


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_an_ended_container_comes_back_with_port_and_data(service: DockerService, end: str, paused: bool) -> None:
    url, port = service.url, service.place.port
    ask(port, "kept")
    if paused:
        service.pause()
    getattr(service, end)()
    assert not accepts(service.place)
    with pytest.raises(ServiceFailed, match="does not run; start it before you pause it"):
        service.pause()
    assert service.restart() == url
    assert ask(port, "saved") == "kept,"
    assert len(made) == 1


def test_a_paused_container_answers_nothing_until_it_is_resumed(service: DockerService) -> None:
    service.pause()
    with pytest.raises(TimeoutError):
        ask(service.place.port, "anybody there?", timeout=0.2)
    service.resume()
    service.resume()
    assert ask(service.place.port, "back") == "back"


def test_close_removes_it_and_may_be_repeated(service: DockerService) -> None:
    service.close()
    service.close()
    assert not accepts(service.place)
    assert service.logs() == ""


def test_what_docker_refuses_is_reported(testcontainers: None) -> None:
    service = DockerService(make_echo_recipe(), "no-such-image", port=7)
    with pytest.raises(ServiceFailed, match=r"'echo' \(container of no-such-image\) could not be created: pull access"):
        service.start()


def test_a_server_that_does_not_get_ready_is_bounded_and_removed(testcontainers: None) -> None:
    service = DockerService(make_echo_recipe(start_timeout=0.3), "broken", port=7)
    with pytest.raises(ServiceFailed, match=r"was not ready within 0\.3 s"):
        service.start()
    service.close()


def test_client_count_without_a_way_to_ask_is_unsupported(testcontainers: None) -> None:
    with pytest.raises(UnsupportedError, match="cannot count clients"):
        DockerService(make_echo_recipe(count_clients=None), "echo:1", port=7).client_count()


def test_without_testcontainers_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> types.ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(
        ServiceNotFound, match=r"a container of 'echo' needs testcontainers.*pip install testcontainers"
    ):
        DockerService(make_echo_recipe(), "echo:1", port=7)


def test_redis_has_a_container(testcontainers: None) -> None:
    (recipe,) = (one for one in RECIPES if one.name == "redis")
    assert recipe.container is not None
    container = recipe.container()
    assert isinstance(container, DockerService)
    command = " ".join(container._command)
    assert command.startswith("redis-server --bind * --protected-mode no")
    assert "--appendfsync always" in command
