"""What of the conformance kit does not submit to a queue: an orchestrator has none that a client could write into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tranship.settings import BrokerURL
from tranship.testing.harness import Harness
from tranship.testing.services import Service
from tranship.testing.suites import LifecycleSuite


class OrchestratorHarness(Harness):
    """Orchestrators have no namespaces: nothing of the kit's own is left in this one."""

    native_errors = False

    def url(self, namespace: str, options: Mapping[str, Any]) -> str:
        return BrokerURL.parse(self.base_url).with_options(**options).reveal()


@pytest.mark.xdist_group("orchestrator")
class TestLifecycle(LifecycleSuite):
    @pytest.fixture
    def harness(self, orchestrator_service: Service) -> Harness:
        return OrchestratorHarness(orchestrator_service.url)

    # These submit to a queue, or wait for a connection that is lost; HTTP has none.
    test_black_hole_consumer = test_black_hole_submitter = test_capabilities_stable = test_capabilities_truthful = None
    test_consume_over_cuts = test_consumer_close_while_blocked = test_control_feed_survives_cut = None
    test_extend_after_cut = test_namespace_isolation = test_no_leaked_connections_after_close = None
    test_settle_over_reconnect = test_submit_answer_lost = test_submit_request_lost = None
    test_submit_truthful_over_cuts = test_auth_failure_is_permanent = None
    # There is nothing of it here.
    test_half_open_connection = test_reconnect_consume = test_reconnect_publish = None
