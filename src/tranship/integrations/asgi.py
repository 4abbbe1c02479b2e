"""Web applications with a lifespan: Starlette, FastAPI, Litestar and what is made like them.

::

    app = Starlette(routes=routes, lifespan=lifespan())

    async def create(request: Request) -> JSONResponse:
        handle = await get_client(request).submit(thumbnail, "cat.png")

:mod:`tranship.integrations.fastapi` and :mod:`tranship.integrations.litestar` hand the client to a handler's parameter.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

from tranship.checks import invalid
from tranship.client import AsyncClient
from tranship.errors import BrokerUnreachable, ConfigurationError

__all__ = ["Connection", "Lifespan", "get_client", "lifespan"]

log: logging.Logger = logging.getLogger("tranship.integrations")

_NAME: Final = "tranship"

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""What such frameworks take as ``lifespan=``: is given the application, and surrounds what it serves."""


class Connection(Protocol):
    """A request or a WebSocket of such a framework."""

    @property
    def app(self) -> Any:
        """The application that it is for; it has a ``state``."""


def lifespan(
    own: Lifespan | None = None, *, client: Callable[[], AsyncClient] = AsyncClient, required: bool = True
) -> Lifespan:
    """Return a lifespan that opens a client when the application starts, and closes it when that has ended.

    Handlers get the client from :func:`get_client`; it is ``app.state.tranship``, too. It closes after the last
    request, and finishes submits that are under way.

    Args:
        own: the application's own lifespan. It runs inside, with the client there, and what it yields is kept.
        client: makes the client, such as ``lambda: AsyncClient(url)``; it is called whenever the application starts,
            which tests do again and again.
        required: the application does not start without the broker. If not, it is logged that the broker is away, and
            the client connects when it is first used.

    Raises:
        InvalidOptionError: of these is one what it must not be.
        When the application starts: whatever ``client`` and :meth:`~tranship.AsyncClient.open` raise.
    """
    if own is not None and not callable(own):
        raise invalid("own", own, "your own lifespan, a function of the application; a URL goes into `client`")
    if not callable(client):
        raise invalid(
            "client",
            client,
            "a function that makes a client, such as `lambda: AsyncClient(url)`: an application may start more than "
            "once, and a client that was closed stays closed",
        )
    around = own

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        async with _opened(client, required=required) as opened:
            setattr(app.state, _NAME, opened)
            try:
                if around is None:
                    yield
                else:
                    async with around(app) as state:
                        yield state
            finally:
                if getattr(app.state, _NAME, None) is opened:
                    delattr(app.state, _NAME)

    return run


def get_client(connection: Connection) -> AsyncClient:
    """Return the client that :func:`lifespan` has opened.

    Args:
        connection: a request, or a WebSocket.

    Raises:
        ConfigurationError: there is none; it says what that may be due to.
    """
    found = getattr(connection.app.state, _NAME, None)
    if isinstance(found, AsyncClient):
        return found
    raise ConfigurationError(
        f"this {type(connection.app).__name__} application has no client of tranship: its lifespan does not run. Make "
        "it with lifespan=lifespan(). In tests, write `with TestClient(app) as web:`, as the lifespan runs inside of "
        "the `with` only (httpx.ASGITransport runs none). A mounted application has no lifespan of its own: share the "
        "state of the one that it is mounted in, `mounted.state = app.state`. Servers can switch it off "
        "(uvicorn --lifespan off)"
    )


@asynccontextmanager
async def _opened(client: Callable[[], AsyncClient], *, required: bool) -> AsyncIterator[AsyncClient]:
    made = client()
    if not isinstance(made, AsyncClient):
        raise invalid("what `client` returned", made, "an AsyncClient: a blocking Client would stop the event loop")
    try:
        await _open(made, required=required)
        yield made
    finally:
        await made.aclose()


async def _open(client: AsyncClient, *, required: bool) -> None:
    try:
        await client.open()
    except BrokerUnreachable as error:
        if required:
            raise
        log.warning("the application starts without its broker, and connects when it is needed: %s", error)
