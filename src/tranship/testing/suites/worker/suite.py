"""What users of a worker may rely on, on every broker."""

from __future__ import annotations

from tranship.testing.suites.worker.affinity import AffinityCases
from tranship.testing.suites.worker.awaited_events import AwaitedEventCases
from tranship.testing.suites.worker.batches import BatchCases
from tranship.testing.suites.worker.cancels import CancelCases
from tranship.testing.suites.worker.canvas import CanvasCases, ChordCases
from tranship.testing.suites.worker.clocks import ClockCases
from tranship.testing.suites.worker.commands import CommandCases
from tranship.testing.suites.worker.dependencies import DependencyCases
from tranship.testing.suites.worker.errors import WorkerErrorCases
from tranship.testing.suites.worker.faults import WorkerFaultCases
from tranship.testing.suites.worker.forks import ForkCases
from tranship.testing.suites.worker.isolation import IsolationCases
from tranship.testing.suites.worker.leases import WorkerLeaseCases
from tranship.testing.suites.worker.lifecycle import WorkerLifecycleCases
from tranship.testing.suites.worker.limits import LimitCases
from tranship.testing.suites.worker.messages import MessageCases
from tranship.testing.suites.worker.names import WorkerNameCases
from tranship.testing.suites.worker.outages import WorkerAwayCases, WorkerOutageCases
from tranship.testing.suites.worker.parts import PartCases
from tranship.testing.suites.worker.presence import WorkerHealthCases, WorkerPresenceCases
from tranship.testing.suites.worker.runs import RunCases
from tranship.testing.suites.worker.schedules import ScheduleCases
from tranship.testing.suites.worker.singles import SingleCases
from tranship.testing.suites.worker.steps import StepCases
from tranship.testing.suites.worker.stops import WorkerStopCases
from tranship.testing.suites.worker.type_limits import TypeLimitCases
from tranship.testing.suites.worker.typed_tasks import TypedCases

__all__ = ["WorkerSuite"]


class WorkerSuite(
    RunCases,
    CancelCases,
    ClockCases,
    WorkerLeaseCases,
    WorkerStopCases,
    MessageCases,
    CanvasCases,
    ChordCases,
    WorkerFaultCases,
    WorkerOutageCases,
    WorkerAwayCases,
    WorkerErrorCases,
    WorkerPresenceCases,
    WorkerHealthCases,
    WorkerNameCases,
    TypeLimitCases,
    TypedCases,
    WorkerLifecycleCases,
    DependencyCases,
    IsolationCases,
    ForkCases,
    ScheduleCases,
    PartCases,
    StepCases,
    AwaitedEventCases,
    AffinityCases,
    BatchCases,
    SingleCases,
    LimitCases,
    CommandCases,
):
    """``Worker``: running, retrying, cancelling, clocks, stopping, messages, outages, presence, health, names, types;
    what is around its work, dependencies, isolation, handlers that fork; schedules, parts and
    progress, steps, sleeps, awaited events, preferred workers, batches, tasks of which there is one at
    a time, limits by key, and live control.
    """
