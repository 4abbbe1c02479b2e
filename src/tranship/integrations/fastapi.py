"""FastAPI: the client as a parameter of path operations.

::

    app = FastAPI(lifespan=lifespan())

    @app.post("/thumbnails")
    async def create(photo: str, tasks: ClientDep) -> dict[str, str]:
        handle = await tasks.submit(thumbnail, photo)
        return {"id": handle.id}
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from tranship.client import AsyncClient
from tranship.integrations import asgi
from tranship.integrations.asgi import lifespan

__all__ = ["ClientDep", "get_client", "lifespan"]


# Not in a thread, as FastAPI would call a `def`.
async def get_client(connection: HTTPConnection) -> AsyncClient:
    """Return the client that :func:`lifespan` has opened; for ``Depends`` and ``app.dependency_overrides``.

    Raises:
        ConfigurationError: there is none; it says what that may be due to.
    """
    return asgi.get_client(connection)


ClientDep = Annotated[AsyncClient, Depends(get_client)]
"""A parameter of this type is given the client."""
