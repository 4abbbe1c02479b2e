"""The same on transports whose broker is a server of the test kit's: RabbitMQ, Redis, and SQS as moto plays it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_kombu import Alone, Report, WithResults

from tranship.settings import BrokerURL
from tranship.testing.harness import Harness
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import Service
from tranship.testing.suites import (
    ConsumerSuite,
    FacadeSuite,
    LifecycleSuite,
    QueueSuite,
    SubmitterSuite,
    WorkerSuite,
)

pytestmark = pytest.mark.timeout(180)

NOTICES_SOON = {"keepalive": 1.0, "command_timeout": 3.0, "heartbeat": 2}


def place_of(service: Service) -> str:
    place = BrokerURL.parse(service.url)
    return f"{place.host}:{place.port}"


@pytest.fixture
def pyamqp_harness(tranship_service: Callable[[str], Service]) -> Harness:
    """RabbitMQ, spoken to by py-amqp."""
    service = tranship_service("rabbitmq")
    url = f"kombu+pyamqp://guest:guest@{place_of(service)}//"
    refused = "kombu+pyamqp://nobody:open-sesame@{address}//"
    harness = ServiceHarness(service, url=url, refused=refused, impatient=NOTICES_SOON, probes=0)
    harness.patience = 30.0
    return harness


@pytest.fixture
def redis_harness(tranship_service: Callable[[str], Service]) -> Harness:
    """Redis, as kombu uses it: what was held comes back after a fixed time."""
    service = tranship_service("redis")
    options = {"transport.visibility_timeout": 8}
    url = f"kombu+redis://{place_of(service)}/0"
    refused = "kombu+redis://nobody:open-sesame@{address}/0"
    harness = ServiceHarness(service, url=url, refused=refused, options=options, impatient=NOTICES_SOON)
    harness.patience = 30.0
    # What is held until it is due comes again after those eight seconds, too.
    harness.many = 300
    return harness


class PostgresHarness(ServiceHarness):
    """A transaction is several round trips: one whose answers get lost on the way is never committed."""

    patience = 30.0

    def make_proxy(self) -> None:
        """What is asked of a wire that loses answers cannot be."""


@pytest.fixture(name="sqla+postgresql_harness")
def postgres_harness(tranship_service: Callable[[str], Service]) -> Harness:
    """kombu's tables in PostgreSQL."""
    pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")
    service = tranship_service("postgres")
    place = BrokerURL.parse(service.url)
    url = f"kombu+sqla+postgresql+psycopg://{place.username}:{place.password}@{place_of(service)}/postgres"
    refused = "kombu+sqla+postgresql+psycopg://nobody:open-sesame@{address}/postgres"
    return PostgresHarness(service, url=url, refused=refused, impatient=NOTICES_SOON, probes=0)


class SqsHarness(Harness):
    """Queues in the memory of a process, which loses everything when it is restarted."""

    patience = 30.0
    many = 50

    def make_proxy(self) -> None:
        """What is held is held for a time, and not by a connection: to cut one takes nothing from its worker."""


@pytest.fixture
def sqs_harness(s3_service: Service) -> Harness:
    """SQS, with looks that cost nothing."""
    pytest.importorskip("pycurl", reason="pip install 'kombu[sqs]'")
    boto3 = pytest.importorskip("boto3")
    # moto loads what it plays when it is first asked for it, which takes seconds.
    first = boto3.client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=s3_service.url,
        aws_access_key_id="KEY",
        aws_secret_access_key="SECRET",
    )
    first.list_queues()
    return SqsHarness(
        f"kombu+sqs://KEY:SECRET@{place_of(s3_service)}?polling_interval=0.05&transport.region=us-east-1"
        "&transport.visibility_timeout=8"
    )


# Always: the verbs of the queue, and whether the report is true.


class TestQueueOnPyamqp(Alone, QueueSuite, Report):
    name = "pyamqp"


class TestQueueOnRedis(Alone, QueueSuite, Report):
    name = "redis"


# The rest is a campaign.


@pytest.mark.campaign
class TestRestOfPyamqp(Alone, SubmitterSuite, ConsumerSuite, LifecycleSuite):
    name = "pyamqp"


@pytest.mark.campaign
class TestRestOfRedis(Alone, SubmitterSuite, ConsumerSuite, LifecycleSuite):
    name = "redis"


@pytest.mark.campaign
class TestPostgres(Alone, QueueSuite, SubmitterSuite, ConsumerSuite, LifecycleSuite, Report):
    name = "sqla+postgresql"


@pytest.mark.campaign
class TestSqs(Alone, QueueSuite, SubmitterSuite, ConsumerSuite, LifecycleSuite, Report):
    """Each message is three requests over HTTP: what takes hundreds of them takes minutes."""

    name = "sqs"


@pytest.mark.campaign
class TestFacadeOnPyamqp(WithResults, FacadeSuite):
    name = "pyamqp"


@pytest.mark.campaign
class TestWorkerOnPyamqp(WithResults, WorkerSuite):
    name = "pyamqp"


@pytest.mark.campaign
class TestFacadeOnRedis(WithResults, FacadeSuite):
    name = "redis"


@pytest.mark.campaign
class TestWorkerOnRedis(WithResults, WorkerSuite):
    name = "redis"
