"""A client opens and closes with a web application, and handlers get it."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from litestar import Litestar, get
from litestar import websocket as litestar_websocket
from litestar.connection import WebSocket as LitestarSocket
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient as StarletteClient

from tranship import AsyncClient, Client, task
from tranship.errors import BrokerRefused, BrokerUnreachable, ClosedError, ConfigurationError, InvalidOptionError
from tranship.integrations import asgi
from tranship.integrations.asgi import get_client, lifespan
from tranship.integrations.fastapi import ClientDep
from tranship.integrations.fastapi import get_client as fastapi_client
from tranship.integrations.litestar import TranshipPlugin


@task
def thumbnail(photo: str) -> str:
    return f"{photo}.png"


@pytest.fixture(autouse=True)
def url(tranship_url, monkeypatch):
    monkeypatch.setenv("TRANSHIP_BROKER_URL", tranship_url)
    return tranship_url


@pytest.fixture(autouse=True)
def worker(tranship_worker):
    return tranship_worker(thumbnail)


async def made(tasks: AsyncClient, photo: str) -> str:
    return await (await tasks.submit(thumbnail, photo)).result(timeout=5)


async def make(request):
    return PlainTextResponse(await made(get_client(request), request.query_params["photo"]))


ROUTES = [Route("/make", make)]


class Away(AsyncClient):
    """Its broker is away when it is opened; with each use it is tried again."""

    async def open(self):
        raise BrokerUnreachable("nobody answers")


def test_starlettes_handlers_get_the_client():
    with StarletteClient(Starlette(routes=ROUTES, lifespan=lifespan())) as web:
        assert web.get("/make?photo=cat").text == "cat.png"


def test_an_application_may_start_again_and_has_a_new_client_then():
    app = Starlette(routes=ROUTES, lifespan=lifespan())
    seen = []
    for photo in ("cat", "dog"):
        with StarletteClient(app) as web:
            seen.append(app.state.tranship)
            assert web.get(f"/make?photo={photo}").text == f"{photo}.png"
    first, second = seen
    assert first is not second
    with pytest.raises(ClosedError):
        _ = first.capabilities


def test_own_lifespan_runs_inside_and_what_it_yields_is_kept():
    seen = []

    @asynccontextmanager
    async def own(app):
        seen.append(await made(app.state.tranship, "begin"))
        yield {"greeting": "hello"}
        seen.append(await made(app.state.tranship, "end"))

    async def greet(request):
        return PlainTextResponse(request.state.greeting)

    with StarletteClient(Starlette(routes=[Route("/", greet)], lifespan=lifespan(own))) as web:
        assert web.get("/").text == "hello"
    assert seen == ["begin.png", "end.png"]


def test_the_client_is_closed_when_the_own_lifespan_fails():
    kept = []

    @asynccontextmanager
    async def own(app):
        kept.append(app.state.tranship)
        raise LookupError("no database")
        yield

    app = Starlette(lifespan=lifespan(own))
    with pytest.raises(LookupError, match="no database"), StarletteClient(app):
        pass
    assert "closed" in repr(kept[0])
    assert not hasattr(app.state, "tranship")


def test_without_its_broker_an_application_does_not_start():
    app = Starlette(routes=ROUTES, lifespan=lifespan(client=Away))
    with pytest.raises(BrokerUnreachable, match="nobody answers"), StarletteClient(app):
        pass


def test_an_application_that_starts_without_its_broker_connects_later(caplog):
    with (
        caplog.at_level(logging.WARNING, "tranship"),
        StarletteClient(Starlette(routes=ROUTES, lifespan=lifespan(client=Away, required=False))) as web,
    ):
        assert web.get("/make?photo=cat").text == "cat.png"
    assert "starts without its broker" in caplog.text
    assert "nobody answers" in caplog.text


def test_a_broker_that_refuses_is_no_broker_that_is_away():
    class Refused(AsyncClient):
        async def open(self):
            raise BrokerRefused("bad password")

    app = Starlette(lifespan=lifespan(client=Refused, required=False))
    with pytest.raises(BrokerRefused), StarletteClient(app):
        pass


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: lifespan("redis://localhost"), "own is 'redis://localhost'; expected your own lifespan"),
        (lambda: lifespan(client=AsyncClient("memory://x")), "a client that was closed stays closed"),
        (lambda: TranshipPlugin(client="redis://localhost"), "client is 'redis://localhost'; expected a function"),
    ],
)
def test_a_wrong_argument_is_told_at_once(make_it, says):
    with pytest.raises(InvalidOptionError) as caught:
        make_it()
    assert says in str(caught.value)


def test_a_blocking_client_is_refused():
    with (
        pytest.raises(InvalidOptionError, match="would stop the event loop"),
        StarletteClient(Starlette(lifespan=lifespan(client=Client))),
    ):
        pass


def test_what_is_wrong_without_the_lifespan_is_told():
    web = StarletteClient(Starlette(routes=ROUTES, lifespan=lifespan()))
    with pytest.raises(ConfigurationError, match=r"its lifespan does not run.*with TestClient\(app\)"):
        web.get("/make?photo=cat")


def test_a_mounted_application_shares_the_state_of_the_outer_one():
    inner = Starlette(routes=ROUTES)
    outer = Starlette(routes=[Mount("/inner", inner)], lifespan=lifespan())
    with StarletteClient(outer) as web:
        with pytest.raises(ConfigurationError, match=r"mounted\.state = app\.state"):
            web.get("/inner/make?photo=cat")
        inner.state = outer.state
        assert web.get("/inner/make?photo=cat").text == "cat.png"


def fastapi() -> FastAPI:
    router = APIRouter()

    @router.get("/make")
    async def make(photo: str, tasks: ClientDep) -> str:
        return await made(tasks, photo)

    @router.websocket("/socket")
    async def socket(socket: WebSocket, tasks: ClientDep) -> None:
        await socket.accept()
        await socket.send_text(await made(tasks, await socket.receive_text()))

    app = FastAPI(lifespan=lifespan())
    app.include_router(router)
    return app


def test_fastapis_operations_and_web_sockets_get_the_client():
    with TestClient(fastapi()) as web:
        assert web.get("/make?photo=cat").json() == "cat.png"
        with web.websocket_connect("/socket") as socket:
            socket.send_text("dog")
            assert socket.receive_text() == "dog.png"
        assert "tasks" not in web.get("/openapi.json").text


def test_fastapis_dependency_may_be_overridden(url):
    app = fastapi()
    app.dependency_overrides[fastapi_client] = lambda: AsyncClient(url)
    assert TestClient(app).get("/make?photo=cat").json() == "cat.png"


def test_a_router_may_bring_the_lifespan():
    app = FastAPI()
    router = APIRouter(lifespan=lifespan())

    @router.get("/make")
    async def make(photo: str, tasks: ClientDep) -> str:
        return await made(tasks, photo)

    app.include_router(router)
    with TestClient(app) as web:
        assert web.get("/make?photo=cat").json() == "cat.png"


def test_litestars_handlers_and_web_sockets_get_the_client():
    seen = []

    @asynccontextmanager
    async def own(app):
        seen.append(await made(app.state.tranship, "own"))
        yield

    @get("/make")
    async def make(photo: FromQuery[str], tasks: NamedDependency[AsyncClient]) -> str:
        return await made(tasks, photo)

    @litestar_websocket("/socket")
    async def socket(socket: LitestarSocket, tasks: NamedDependency[AsyncClient]) -> None:
        await socket.accept()
        await socket.send_text(await made(tasks, await socket.receive_text()))
        await socket.close()

    app = Litestar([make, socket], lifespan=[own], plugins=[TranshipPlugin()])
    with LitestarClient(app) as web:
        assert web.get("/make?photo=owl").text == "owl.png"
        with web.websocket_connect("/socket") as connected:
            connected.send_text("fox")
            assert connected.receive_text() == "fox.png"
    assert seen == ["own.png"]


def test_litestars_parameter_may_have_another_name(url):
    @get("/make")
    async def make(photo: FromQuery[str], queue: NamedDependency[AsyncClient]) -> str:
        return await made(queue, photo)

    plugin = TranshipPlugin("queue", client=lambda: AsyncClient(url))
    with LitestarClient(Litestar([make], plugins=[plugin])) as web:
        assert web.get("/make?photo=owl").text == "owl.png"


def test_it_needs_no_framework():
    assert not {"starlette", "fastapi", "litestar"} & set(vars(asgi))
