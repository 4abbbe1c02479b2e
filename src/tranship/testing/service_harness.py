"""A broker under test that is a server of its own: it can be killed, frozen and started again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tranship.errors import UnsupportedError
from tranship.settings import BrokerURL
from tranship.testing.facades import in_thread
from tranship.testing.harness import Harness
from tranship.testing.services import Service

__all__ = ["ServiceHarness"]

_HARMS: Final = frozenset({"restart", "pause", "resume"})


class ServiceHarness(Harness):
    """A harness of any :class:`~tranship.testing.services.Service`.

    ::

        @pytest.fixture
        def harness(self, tranship_service):
            return ServiceHarness(tranship_service("redis"), refused="redis://nobody:open-sesame@{address}/0")

    A service that somebody else runs cannot be harmed: the cases that need it are skipped.

    Args:
        service: a service that runs.
        url: where the backend connects, if that is not the service's url; ``{address}`` stands for its
            ``host:port``.
        refused: a URL that the server must refuse for good, with ``{address}`` likewise; None: the case is
            skipped.
        options: URL options that every backend under test gets.
        impatient: those of connections that a case is going to harm, in addition: shorter timeouts.
        probes: how many of the connections that the service counts are the count's own.
        results: the harness of a broker that clients and workers under test keep results at; None: this one.
    """

    def __init__(
        self,
        service: Service,
        *,
        url: str = "",
        refused: str | None = None,
        options: Mapping[str, Any] | None = None,
        impatient: Mapping[str, Any] | None = None,
        probes: int = 1,
        results: Harness | None = None,
    ) -> None:
        place = BrokerURL.parse(service.url)
        address = f"{place.host}:{place.port}"
        super().__init__(url.replace("{address}", address) or service.url)
        self.service = service
        self.refused_url: str | None = refused.replace("{address}", address) if refused else None
        self._options = dict(options or {})
        self.impatient: Mapping[str, Any] = dict(impatient or {})
        self._probes = probes
        self.results = results

    def url(self, namespace: str, options: Mapping[str, Any]) -> str:
        """Return the full URL for one namespace with these options, on top of the harness's own."""
        return super().url(namespace, {**self._options, **options})

    async def restart(self) -> None:
        """Kill the server as a crash would, and start it with its data on the same port."""
        await in_thread(self.service.kill)
        await in_thread(self.service.start)

    async def pause(self) -> None:
        """Freeze the server."""
        await in_thread(self.service.pause)

    async def resume(self) -> None:
        """Let it go on."""
        await in_thread(self.service.resume)

    async def connections(self) -> int | None:
        """How many connections the server counts, without the one that asks; None: it cannot be asked."""
        count: Callable[[], int] = self.service.client_count
        try:
            return await in_thread(count) - self._probes
        except UnsupportedError:
            return None

    def can(self, name: str) -> bool:
        """Whether the service can be harmed like this."""
        return super().can(name) and (name not in _HARMS or self.service.controllable)
