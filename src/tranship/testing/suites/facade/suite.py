"""What users of a client may rely on, on every broker; each case for both facades."""

from __future__ import annotations

from tranship.testing.suites.facade.claims import ClaimCases
from tranship.testing.suites.facade.concurrency import ConcurrentSubmitCases
from tranship.testing.suites.facade.delayed import DelayedCases
from tranship.testing.suites.facade.lifecycle import FacadeLifecycleCases
from tranship.testing.suites.facade.many import ManyResultCases
from tranship.testing.suites.facade.middleware import MiddlewareCases
from tranship.testing.suites.facade.outage import FacadeOutageCases
from tranship.testing.suites.facade.outcomes import OutcomeCases
from tranship.testing.suites.facade.replies import ReplyCases
from tranship.testing.suites.facade.results import ResultCases
from tranship.testing.suites.facade.submit import SubmitCases
from tranship.testing.suites.facade.workflows import WorkflowCases

__all__ = ["FacadeSuite"]


class FacadeSuite(
    SubmitCases,
    ConcurrentSubmitCases,
    ResultCases,
    OutcomeCases,
    MiddlewareCases,
    ClaimCases,
    ReplyCases,
    DelayedCases,
    ManyResultCases,
    WorkflowCases,
    FacadeLifecycleCases,
    FacadeOutageCases,
):
    """``AsyncClient`` and ``Client``: submitting, waiting, workflows, middleware, claims, closing, outages."""
