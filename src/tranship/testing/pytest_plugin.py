"""Fixtures for tests of one's own tasks, loaded by pytest wherever tranship is installed.

::

    def test_resize(tranship_client, tranship_worker):
        tranship_worker(resize)
        assert tranship_client.submit(resize, "a.png", width=64).result(timeout=5) == "a-64.png"

Importing this module costs nothing: each fixture imports what it needs when a test asks for it.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest

if TYPE_CHECKING:
    from tranship.sync import Client
    from tranship.task import Task
    from tranship.testing.clock import VirtualClock
    from tranship.testing.services import Recipe, Service, ServiceFinder
    from tranship.testing.submits import Submits
    from tranship.worker import Worker

_SERVICES = pytest.StashKey[dict[str, "Service"]]()
"""Where a session keeps the servers it has started."""
_LEFT_OUT = "tranship-left-out"
"""A property of reports: why the harness could not run the case."""

__all__ = [
    "StartService",
    "StartWorker",
    "own_services",
    "tranship_client",
    "tranship_clock",
    "tranship_environment",
    "tranship_own_service",
    "tranship_recipes",
    "tranship_service",
    "tranship_submits",
    "tranship_url",
    "tranship_worker",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project say which servers its tests need."""
    parser.addini("tranship_services", "servers to have before the tests begin, such as: redis nats", "args", [])


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install what the project's servers need, once, before there are processes that all would want to.

    Only those of the ini option ``tranship_services``. One that cannot be had and that ``TRANSHIP_TEST_REQUIRE`` names
    ends the run here; the others are told once, and the tests that ask for them are skipped.
    """
    config = session.config
    names = config.getini("tranship_services")
    if not names or hasattr(config, "workerinput") or config.option.collectonly:
        return
    from tranship.errors import ConfigurationError
    from tranship.testing.services import ServiceFinder

    finder, say = ServiceFinder(), config.get_terminal_writer().line
    try:
        lacking = finder.provide(names, tell=say)
    except ConfigurationError as error:
        raise pytest.UsageError(f"tranship_services: {error}") from error
    if missing := [problem for name, problem in lacking.items() if name in finder.required]:
        raise pytest.UsageError("\n".join(missing))
    for problem in lacking.values():
        say(problem)


class StartWorker(Protocol):
    """What :func:`tranship_worker` gives."""

    def __call__(self, *tasks: Task[..., Any], **options: Any) -> Worker:
        """Start a worker for ``tasks``; ``options`` are those of :class:`~tranship.Worker`."""


@pytest.fixture
def tranship_url() -> str:
    """URL of a broker in memory that this test has to itself.

    Override it to run the same tests on another broker.
    """
    return f"memory://test-{uuid.uuid4().hex}"


@pytest.fixture
def tranship_client(tranship_url: str) -> Iterator[Client]:
    """A blocking client of :func:`tranship_url`; closed after the test."""
    from tranship.sync import Client

    # Also the result store: the environment's must not slip in.
    with Client(tranship_url, result_url=tranship_url) as client:
        yield client


@pytest.fixture
def tranship_clock() -> Iterator[VirtualClock]:
    """A clock that is in use during the test: ``tranship_clock.advance(timedelta(days=1))``.

    Only what is in this process goes by it: the broker in memory, its clients and its workers.
    """
    from tranship.testing.clock import VirtualClock

    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def tranship_submits(tranship_url: str) -> Iterator[Submits]:
    """What is submitted to :func:`tranship_url` during the test, whoever submits it; it has to be in memory.

    ``tranship_submits.assert_submitted(resize, "a.png")`` insists that this was.
    """
    from tranship.testing.submits import record_submits

    with record_submits(tranship_url) as submits:
        yield submits


@pytest.fixture
def tranship_worker(tranship_url: str) -> Iterator[StartWorker]:
    """Start workers on :func:`tranship_url`: ``tranship_worker(resize, crop, max_concurrent_tasks=2)``.

    Each runs in a thread of this process, is ready when the call returns, and is stopped after the test:
    running tasks get five seconds (``shutdown_timeout``). What made a worker stop by itself is raised then.
    """
    from tranship.testing.background import BackgroundWorker
    from tranship.worker import Worker

    with contextlib.ExitStack() as workers:

        def start(*tasks: Task[..., Any], **options: Any) -> Worker:
            worker = Worker(
                tranship_url, tasks=tasks, **{"result_url": tranship_url, "shutdown_timeout": 5.0, **options}
            )
            workers.enter_context(BackgroundWorker(worker))
            return worker

        yield start


@pytest.fixture(scope="session")
def tranship_recipes() -> Sequence[Recipe]:
    """The servers that :func:`tranship_service` can start; override it to add your own."""
    from tranship.testing.services import RECIPES

    return RECIPES


@pytest.fixture(scope="session")
def tranship_service(
    tranship_recipes: Sequence[Recipe], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Service]]:
    """Start a real server by name, once for the session: ``tranship_service("redis").url``.

    It is started again where a test has ended it. Should it have ended by itself, the test that fails of it shows its
    last log lines. Where there is none the test is skipped with the reason; it fails when
    ``TRANSHIP_TEST_REQUIRE`` names it.
    """
    from tranship.testing.services import ServiceFinder

    finder = ServiceFinder(tranship_recipes)
    services = request.session.stash[_SERVICES] = dict[str, "Service"]()

    def service(name: str) -> Service:
        if name not in services:
            services[name] = _found(finder, name)
        services[name].start()
        return services[name]

    yield service
    for started in services.values():
        started.close()


StartService = Callable[["str | Recipe"], "Service"]
"""What :func:`tranship_own_service` gives."""


@pytest.fixture
def tranship_own_service(tranship_recipes: Sequence[Recipe]) -> Iterator[StartService]:
    """Start a server that nobody else uses: ``tranship_own_service("redis")``, or one made in another way:
    ``tranship_own_service(redis_recipe("--maxmemory", "3mb"))``.

    It is ended after the test. Skipped and failed as :func:`tranship_service` says; skipped, too, where the server of
    that name was given by URL: others may use it. :func:`own_services` is for fixtures of wider scope.
    """
    with own_services(tranship_recipes) as start:
        yield start


@contextlib.contextmanager
def own_services(recipes: Sequence[Recipe] | None = None) -> Iterator[StartService]:
    """Inside, what is called starts servers as :func:`tranship_own_service` says; they are ended at the end.

    Args:
        recipes: of what is asked for by name; None: those that the kit has.
    """
    from tranship.testing.services import RECIPES, ServiceFinder

    by_name = ServiceFinder(RECIPES if recipes is None else recipes)
    with contextlib.ExitStack() as stack:

        def start(what: str | Recipe) -> Service:
            finder, name = (by_name, what) if isinstance(what, str) else (ServiceFinder([what]), what.name)
            service = _found(finder, name)
            if not service.controllable:
                pytest.skip(f"the {name} that was given by URL is not ours to start and to harm")
            stack.callback(service.close)
            service.start()
            return service

        yield start


@pytest.fixture
def tranship_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's settings (``TRANSHIP_*``) and state directory from a test.

    For all tests: ``usefixtures = ["tranship_environment"]`` in pytest's configuration. What steers the tests
    themselves (``TRANSHIP_TEST_*``) stays.
    """
    for name in os.environ:
        if name.startswith("TRANSHIP_") and not name.startswith("TRANSHIP_TEST_"):
            monkeypatch.delenv(name)
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "state"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show of a test that failed which servers had ended by themselves, and what they said last.

    Note of a conformance case that was skipped whether the harness could not do what it takes.
    """
    report = yield
    if call.excinfo is not None and type(call.excinfo.value.__cause__).__name__ == "HarnessLacks":
        report.user_properties.append((_LEFT_OUT, str(call.excinfo.value.__cause__)))
    if report.failed:
        for service in _services(item):
            if ended := service.ended():
                report.sections.append((f"Server {service.name}", ended))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which conformance cases nobody has run: what they take, the harness cannot do."""
    cases: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        for name, reason in getattr(report, "user_properties", ()):
            if name == _LEFT_OUT:
                cases.setdefault(str(reason), []).append(report.nodeid.rpartition("::test_")[2])
    if cases:
        terminalreporter.section("conformance cases left out")
        for reason, left_out in cases.items():
            terminalreporter.line(f"{reason}: {', '.join(sorted(set(left_out)))}")


def _found(finder: ServiceFinder, name: str) -> Service:
    from tranship.testing.services import ServiceNotFound

    try:
        return finder.find(name)
    except ServiceNotFound as error:
        give_up: Callable[[str], NoReturn] = pytest.fail if name in finder.required else pytest.skip
        give_up(str(error))


def _services(item: pytest.Item) -> list[Service]:
    """The servers that a test may have talked to: the session's, and those of its own fixtures."""
    own = [value for value in getattr(item, "funcargs", {}).values() if hasattr(value, "client_count")]
    return list({id(one): one for one in [*item.session.stash.get(_SERVICES, {}).values(), *own]}.values())
