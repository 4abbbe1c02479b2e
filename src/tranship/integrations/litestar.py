"""Litestar: a plugin that opens a client with the application, and hands it to handlers.

::

    @post("/thumbnails")
    async def create(photo: str, tasks: NamedDependency[AsyncClient]) -> dict[str, str]:
        handle = await tasks.submit(thumbnail, photo)
        return {"id": handle.id}

    app = Litestar([create], plugins=[TranshipPlugin()])
"""

from __future__ import annotations

from collections.abc import Callable

from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.plugins import InitPlugin
from litestar.types import Scope

from tranship.client import AsyncClient
from tranship.integrations.asgi import get_client, lifespan

__all__ = ["TranshipPlugin"]


class TranshipPlugin(InitPlugin):
    """Opens a client when the application starts and closes it when that has ended; handlers ask for it by name.

    Args:
        dependency: the name of the parameter that is given the client.
        client, required: as of :func:`tranship.integrations.asgi.lifespan`.

    Raises:
        InvalidOptionError: of these is one what it must not be.
    """

    def __init__(
        self, dependency: str = "tasks", *, client: Callable[[], AsyncClient] = AsyncClient, required: bool = True
    ) -> None:
        self._dependency = dependency
        self._lifespan = lifespan(client=client, required=required)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the lifespan, around those that are there, and the dependency."""
        app_config.lifespan = [self._lifespan, *app_config.lifespan]
        app_config.dependencies = {self._dependency: Provide(_client), **app_config.dependencies}
        app_config.signature_types = [*app_config.signature_types, AsyncClient]
        return app_config


# Requests and WebSockets alike have a scope.
async def _client(scope: Scope) -> AsyncClient:
    return get_client(ASGIConnection(scope))
