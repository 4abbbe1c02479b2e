"""What type checkers make of the helpers for web frameworks. Read by mypy and pyright, never run."""
# pyright: strict

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, assert_type

from fastapi import FastAPI
from litestar import Litestar
from litestar.connection import Request as LitestarRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.websockets import WebSocket

from tranship import AsyncClient, task
from tranship.integrations.asgi import get_client, lifespan
from tranship.integrations.fastapi import ClientDep
from tranship.integrations.litestar import TranshipPlugin


@task
def thumbnail(photo: str) -> str:
    return photo


@asynccontextmanager
async def own(app: FastAPI) -> AsyncGenerator[dict[str, int]]:
    yield {"one": 1}


def client() -> AsyncClient:
    return AsyncClient("memory://typed")


app = FastAPI(lifespan=lifespan(own, client=client, required=False))
plain = Starlette(lifespan=lifespan())
light = Litestar(lifespan=[lifespan()], plugins=[TranshipPlugin("queue", client=client)])


async def create(photo: str, tasks: ClientDep) -> str:
    assert_type(tasks, AsyncClient)
    return await (await tasks.submit(thumbnail, photo)).result()


async def connected(one: Request, other: WebSocket, third: LitestarRequest[Any, Any, Any]) -> None:
    assert_type(get_client(one), AsyncClient)
    assert_type(get_client(other), AsyncClient)
    get_client(third)
    get_client("request")  # error


lifespan("memory://x")  # error
lifespan(client=AsyncClient("memory://x"))  # error
