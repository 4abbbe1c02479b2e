"""What users of a worker may rely on, on every broker."""

from __future__ import annotations

from tranship.testing.suites.facade_outage import WorkerOutageCases
from tranship.testing.suites.worker_cancels import CancelCases
from tranship.testing.suites.worker_clocks import ClockCases
from tranship.testing.suites.worker_dependencies import DependencyCases
from tranship.testing.suites.worker_errors import WorkerErrorCases
from tranship.testing.suites.worker_faults import WorkerFaultCases
from tranship.testing.suites.worker_forks import ForkCases
from tranship.testing.suites.worker_isolation import IsolationCases
from tranship.testing.suites.worker_leases import WorkerLeaseCases
from tranship.testing.suites.worker_lifecycle import WorkerLifecycleCases
from tranship.testing.suites.worker_messages import MessageCases
from tranship.testing.suites.worker_outages import WorkerAwayCases
from tranship.testing.suites.worker_presence import WorkerHealthCases, WorkerPresenceCases
from tranship.testing.suites.worker_runs import RunCases
from tranship.testing.suites.worker_stops import WorkerStopCases
from tranship.testing.suites.worker_typed import TypedCases
from tranship.testing.suites.worker_types import TypeLimitCases

__all__ = ["WorkerSuite"]


class WorkerSuite(
    RunCases,
    CancelCases,
    ClockCases,
    WorkerLeaseCases,
    WorkerStopCases,
    MessageCases,
    WorkerFaultCases,
    WorkerOutageCases,
    WorkerAwayCases,
    WorkerErrorCases,
    WorkerPresenceCases,
    WorkerHealthCases,
    TypeLimitCases,
    TypedCases,
    WorkerLifecycleCases,
    DependencyCases,
    IsolationCases,
    ForkCases,
):
    """``Worker``: running, retrying, cancelling, clocks, stopping, messages, outages, presence, health, types; what is
    around its work, dependencies, isolation, handlers that fork.
    """
