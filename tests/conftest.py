"""What every test of this repository may use."""

import gc
import logging
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from servers.echo import make_echo_recipe
from tranship.errors import ConfigurationError
from tranship.testing.services import ProcessService, Recipe, ServiceFinder

pytest_plugins = ["pytester"]

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")


def pytest_configure() -> None:
    """Refuse a run that requires a broker which no test here can use."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in a shell's background. What is interrupted here, and every process of ours, has to hear it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ServiceFinder().check_required()
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector the 600,000 objects of twelve thousand tests: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what starts its processes once for a module; None: whatever else ``--dist`` says."""
    from scheduling import ModulesTogether

    return ModulesTogether(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def _own_log_level() -> Iterator[None]:
    """A command that runs in this process sets the level for its own time only."""
    logger = logging.getLogger("tranship")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def echo_recipe() -> Recipe:
    """A server of a few lines that really runs."""
    return make_echo_recipe()


@pytest.fixture
def echo_service(echo_recipe: Recipe) -> Iterator[ProcessService]:
    """The echo server, running."""
    with ProcessService(echo_recipe) as service:
        yield service
