"""An HTTP server in the place of an orchestrator: it answers in turn what it is told to, and otherwise what is usual."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

TOKEN = "hostile-token"
Answer = Callable[[web.Request], Any]


def status(code: int, body: Any = None, **headers: str) -> Answer:
    """Answer with a status and JSON."""
    return lambda _request: web.Response(
        status=code, text=json.dumps(body or {"error": f"no: {code}"}), content_type="application/json", headers=headers
    )


def text(body: str) -> Answer:
    """Answer with what is no JSON."""
    return lambda _request: web.Response(text=body, content_type="text/html")


def half_a_body(request: web.Request) -> Any:
    """Promise more than is sent, and hang up."""

    async def answer() -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"task_id": "lost')
        assert request.transport is not None
        request.transport.close()
        return response

    return answer()


def nothing(request: web.Request) -> Any:
    """Hang up without a word."""

    async def answer() -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    return answer()


class HostileOrchestrator:
    """Records what it is asked, and answers.

    Attributes:
        said: every JSON body, by what it was: register, heartbeat, poll, result, event, job, look, cancel.
        answers: what is answered next, by the same names; then the usual.
    """

    def __init__(self) -> None:
        self.said: dict[str, list[Any]] = defaultdict(list)
        self.headers: dict[str, list[Any]] = defaultdict(list)
        self.answers: dict[str, deque[Answer]] = defaultdict(deque)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/_public/status", self._answering("status", status(200, {"status": "ok"})))
        app.router.add_post("/_worker/workers/register", self._answering("register", status(200, {"status": "ok"})))
        app.router.add_patch("/_worker/workers/{id}", self._answering("heartbeat", status(200, {"status": "ok"})))
        app.router.add_get("/_worker/workers/{id}/tasks/next", self._answering("poll", self._no_task))
        app.router.add_post("/_worker/tasks/result", self._answering("result", status(200, {"status": "accepted"})))
        app.router.add_post("/_worker/events", self._answering("event", status(200, {"status": "event_accepted"})))
        app.router.add_post("/_worker/auth/token", self._answering("token", self._token))
        app.router.add_post("/_worker/auth/token/refresh", self._answering("refresh", self._token))
        app.router.add_post("/api/v1/jobs/{name}", self._answering("job", status(202, {"job_id": "job-1"})))
        app.router.add_get("/api/v1/jobs/{id}", self._answering("look", status(200, {"status": "running"})))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert self._runner.addresses
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"avtomatika+http://:{TOKEN}@{self.address}?client_token=a-client&websocket=false"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def task(self, task_id: str, kind: Any, params: Any = None, **more: Any) -> Answer:
        """Hand over a task."""
        return status(200, {"task_id": task_id, "job_id": f"job-of-{task_id}", "type": kind, "params": params, **more})

    def results(self, task_id: str) -> list[Any]:
        """Return what was told of the end of a task."""
        return [one for one in self.said["result"] if one["task_id"] == task_id]

    def _answering(self, name: str, usual: Answer) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            self.said[name].append(json.loads(body) if body else None)
            self.headers[name].append(dict(request.headers))
            self.times[name].append(asyncio.get_running_loop().time())
            answer = self.answers[name].popleft() if self.answers[name] else usual
            found = answer(request)
            response: web.StreamResponse = await found if asyncio.iscoroutine(found) else found
            return response

        return handle

    async def _no_task(self, _request: web.Request) -> web.Response:
        # As long as there is nothing, for a while.
        for _ in range(10):
            if self.answers["poll"]:
                break
            await asyncio.sleep(0.02)
        return web.Response(status=204)

    def _token(self, _request: web.Request) -> web.Response:
        number = len(self.said["token"]) + len(self.said["refresh"])
        told = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "expires_in": 3600}
        return web.json_response({**told, "worker_id": "w"})
