import hashlib
import hmac
import os
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from media import thumbnail
from tranship import TaskState
from tranship.errors import BrokerError, SubmitTimeout, SubmitUnknown
from tranship.integrations.fastapi import ClientDep, lifespan

app = FastAPI(lifespan=lifespan())
SECRET = os.environ.get("APP_SECRET", "for development only").encode()


def ticket_of(task_id: str) -> str:
    return f"{task_id}.{hmac.new(SECRET, task_id.encode(), hashlib.sha256).hexdigest()}"


def id_of(ticket: str) -> str:
    task_id = ticket.rpartition(".")[0]
    if not hmac.compare_digest(ticket_of(task_id).encode(), ticket.encode()):
        raise HTTPException(404)
    return task_id


@app.post("/thumbnails", status_code=202)
async def create(photo: str, tasks: ClientDep) -> dict[str, str]:
    handle = await tasks.submit(thumbnail, photo)
    return {"ticket": ticket_of(handle.id)}


@app.get("/thumbnails/{ticket}")
async def show(ticket: str, tasks: ClientDep) -> dict[str, Any]:
    result = await tasks.handle(id_of(ticket)).info()
    return {"state": result.state, "value": result.value, "error": result.error and result.error.message}


@app.get("/thumbnails/{ticket}/state")
async def state(ticket: str, tasks: ClientDep) -> str:
    found = await tasks.handle(id_of(ticket)).state()
    if found is TaskState.UNKNOWN:
        raise HTTPException(404)
    return found


@app.exception_handler(BrokerError)
@app.exception_handler(SubmitTimeout)
async def broker_is_away(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "try again soon"}, status_code=503, headers={"Retry-After": "5"})


@app.exception_handler(SubmitUnknown)
async def perhaps_submitted(request: Request, error: SubmitUnknown) -> JSONResponse:
    return JSONResponse({"detail": "perhaps accepted", "id": error.task_id}, status_code=503)


@app.get("/ready")
async def ready(tasks: ClientDep) -> dict[str, float]:
    return {"broker_seconds": await tasks.ping()}
