"""What users of a client may rely on, on every broker; each case for both facades."""

from __future__ import annotations

from tranship.testing.suites.facade_claims import ClaimCases
from tranship.testing.suites.facade_concurrency import ConcurrentSubmitCases
from tranship.testing.suites.facade_delayed import DelayedCases
from tranship.testing.suites.facade_lifecycle import FacadeLifecycleCases
from tranship.testing.suites.facade_many import ManyResultCases
from tranship.testing.suites.facade_middleware import MiddlewareCases
from tranship.testing.suites.facade_outage import FacadeOutageCases
from tranship.testing.suites.facade_outcomes import OutcomeCases
from tranship.testing.suites.facade_replies import ReplyCases
from tranship.testing.suites.facade_results import ResultCases
from tranship.testing.suites.facade_submit import SubmitCases

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
    FacadeLifecycleCases,
    FacadeOutageCases,
):
    """``AsyncClient`` and ``Client``: submitting, waiting, middleware, claims, closing, outages."""
