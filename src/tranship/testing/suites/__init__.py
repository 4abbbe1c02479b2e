"""The promises of the ports, one suite each; inherit those your backend serves.

::

    class TestMine(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
        @pytest.fixture
        def harness(self):
            return Harness("mine://localhost")

``FacadeSuite`` and ``WorkerSuite`` check that client and worker keep theirs on it.
"""

from typing import Final

from tranship.testing.suites.consumer import ConsumerSuite
from tranship.testing.suites.control import ControlSuite
from tranship.testing.suites.facade import FacadeSuite
from tranship.testing.suites.inspector import InspectorSuite
from tranship.testing.suites.lifecycle import LifecycleSuite
from tranship.testing.suites.results import ResultStoreSuite
from tranship.testing.suites.submitter import SubmitterSuite
from tranship.testing.suites.worker import WorkerSuite

__all__ = [
    "FACADE_SUITES",
    "PORT_SUITES",
    "ConsumerSuite",
    "ControlSuite",
    "FacadeSuite",
    "InspectorSuite",
    "LifecycleSuite",
    "ResultStoreSuite",
    "SubmitterSuite",
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
