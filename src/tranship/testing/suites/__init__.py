"""The promises of the ports, one suite each; inherit those your backend serves.

::

    class TestMine(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
        @pytest.fixture
        def harness(self):
            return Harness("mine://localhost")

``FacadeSuite`` and ``WorkerSuite`` check that client and worker keep theirs on it. Below the ports, ``QueueSuite``,
``TableSuite``, ``TopicSuite`` and ``LogSuite`` check the primitives of a driver (:mod:`tranship.driver`).
"""

from typing import Final

from tranship.testing.suites.driver.log import LogSuite
from tranship.testing.suites.driver.queue import QueueSuite
from tranship.testing.suites.driver.table import TableSuite
from tranship.testing.suites.driver.topic import TopicSuite
from tranship.testing.suites.facade.suite import FacadeSuite
from tranship.testing.suites.ports.consumer import ConsumerSuite
from tranship.testing.suites.ports.control import ControlSuite
from tranship.testing.suites.ports.inspector import InspectorSuite
from tranship.testing.suites.ports.lifecycle import LifecycleSuite
from tranship.testing.suites.ports.results import ResultStoreSuite
from tranship.testing.suites.ports.submitter import SubmitterSuite
from tranship.testing.suites.worker.suite import WorkerSuite

__all__ = [
    "DRIVER_SUITES",
    "FACADE_SUITES",
    "PORT_SUITES",
    "ConsumerSuite",
    "ControlSuite",
    "FacadeSuite",
    "InspectorSuite",
    "LifecycleSuite",
    "LogSuite",
    "QueueSuite",
    "ResultStoreSuite",
    "SubmitterSuite",
    "TableSuite",
    "TopicSuite",
    "WorkerSuite",
]

PORT_SUITES: Final[tuple[type, ...]] = (
    SubmitterSuite,
    ConsumerSuite,
    ResultStoreSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
)
"""Those of a backend, for whoever lists or runs them without pytest: ``cases_of(*PORT_SUITES)``."""

FACADE_SUITES: Final[tuple[type, ...]] = (FacadeSuite, WorkerSuite)
"""Those of client and worker on top of a backend."""

DRIVER_SUITES: Final[tuple[type, ...]] = (QueueSuite, TableSuite, TopicSuite, LogSuite)
"""Those of a driver's primitives, below the ports."""
