"""The same promises of consumers and submitters on quorum queues."""

from __future__ import annotations

import pytest

from tranship.testing.facades import in_thread
from tranship.testing.harness import Harness
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.suites import ConsumerSuite, SubmitterSuite

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(180)]


class StoppedHarness(ServiceHarness):
    """Restarts by stopping: a quorum queue of a lone node that is killed in its first second never comes back."""

    patience = 30.0

    async def restart(self) -> None:
        await in_thread(self.service.restart)


class TestRabbitMQWithQuorumQueues(SubmitterSuite, ConsumerSuite):
    @pytest.fixture
    def harness(self, rabbitmq_service) -> Harness:
        return StoppedHarness(
            rabbitmq_service,
            options={"queue_type": "quorum"},
            impatient={"heartbeat": 2, "command_timeout": 3.0},
            probes=0,
        )
