from typing import Any

from litestar import Litestar, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from media import thumbnail
from tranship import AsyncClient
from tranship.integrations.litestar import TranshipPlugin


@post("/thumbnails", status_code=202)
async def create(photo: FromQuery[str], tasks: NamedDependency[AsyncClient]) -> dict[str, str]:
    handle = await tasks.submit(thumbnail, photo)
    return {"id": handle.id}


@get("/thumbnails/{task_id:str}")
async def show(task_id: FromPath[str], tasks: NamedDependency[AsyncClient]) -> dict[str, Any]:
    result = await tasks.handle(task_id).info()
    return {"state": result.state, "value": result.value}


app = Litestar([create, show], plugins=[TranshipPlugin()])
