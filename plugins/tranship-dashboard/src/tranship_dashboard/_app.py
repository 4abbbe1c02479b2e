"""The application: routes, the door in front of them, and a source behind."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tranship.checks import whole
from tranship.errors import ConfigurationError
from tranship.settings import Settings
from tranship.task import Task
from tranship_dashboard import _static
from tranship_dashboard._actions import act
from tranship_dashboard._brake import Braked
from tranship_dashboard._dead import letter, letters
from tranship_dashboard._latency import latency
from tranship_dashboard._pages import overview, queue, workers
from tranship_dashboard._schedules import schedules
from tranship_dashboard._security import Door
from tranship_dashboard._sessions import COOKIE
from tranship_dashboard._source import Source
from tranship_dashboard._sse import Live
from tranship_dashboard._submit import submit
from tranship_dashboard._tasks import task, tasks, workflow, workflows
from tranship_dashboard._web import Refused, Web, guarded, read_form

__all__ = ["Dashboard"]

NEW: Final = "a new one"
SHORTEST: Final = 8
"""Characters of a token."""
WRONG: Final = "That is not the token. It is printed where the dashboard was started, or set by who runs it."


class Dashboard:
    """An ASGI application that shows what tasks do, and acts on them. It can be served, or mounted in another.

    ::

        app.mount("/tasks", Dashboard("redis://localhost/0", token=os.environ["DASHBOARD_TOKEN"]))

    It connects with the first request, or when it is served by itself; :meth:`aclose` ends it.

    Args:
        url: the broker, as for :class:`~tranship.Client`.
        settings: instead of ``url``, already loaded.
        tasks: those that get a form; of others, the arguments are written as JSON.
        token: who has it may come in. Not given: a new one, :attr:`token`. None: everybody may, because the
            application in front of it sees to that.
        read_only: whether there is nothing but to look.
        secret: what sessions are signed with, where several processes serve it with ``token=None``.
        history: how many finished tasks are kept to be looked at, where workers remember them.
        keep_samples: whether it keeps what its plots show, a record a minute and twelve hours of them, for when it
            is started again and for other dashboards. What others keep is shown in any case.
        title: what the pages are called.
        hosts: the names by which it may be asked, without ports; none: by any.

    Raises:
        InvalidURLError, InvalidOptionError: a value that cannot be used.
        ConfigurationError: a token that is too short; or pydantic, which makes the forms, is not installed.

    Attributes:
        token: see above.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        tasks: Iterable[Task[..., Any]] = (),
        token: str | None = NEW,
        read_only: bool = False,
        secret: str | None = None,
        history: int = 10_000,
        keep_samples: bool = False,
        title: str = "tranship",
        hosts: Iterable[str] = (),
    ) -> None:
        self.token: str | None = secrets.token_urlsafe(24) if token == NEW else token
        if self.token is not None and len(self.token) < SHORTEST:
            raise ConfigurationError(f"the token has {len(self.token)} characters; expected {SHORTEST} or more")
        self._source = Source(
            settings or Settings.load(broker_url=url),
            tasks=list(tasks),
            history=whole("history", history),
            keep_samples=keep_samples,
        )
        application = Starlette(lifespan=self._lifespan)
        self._door = Door(application, self.token, secret, hosts)
        self._web = Web(self._source, read_only=read_only, title=title, signs_out=self.token is not None)
        application.router.routes.extend(self._routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)

    async def aclose(self) -> None:
        """Look no more, and close the connections. Idempotent."""
        await self._source.aclose()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await self._source.begin()
        try:
            yield
        finally:
            await self._source.aclose()

    def _routes(self) -> list[Route]:
        web, live = self._web, Live(self._door.holds)
        views = {
            "/": overview,
            "/queue": queue,
            "/workers": workers,
            "/tasks": tasks,
            "/latency": latency,
            "/task": task,
            "/workflows": workflows,
            "/workflow": workflow,
            "/dead": letters,
            "/letter": letter,
            "/schedules": schedules,
            "/live": live.answer,
        }
        return [
            *(Route(path, guarded(web, view)) for path, view in views.items()),
            Route("/submit", guarded(web, submit), methods=["GET", "POST"]),
            Route("/do/{action}", guarded(web, act, bounded=False), methods=["POST"]),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/static/{name}", _static.serve),
            Route("/{rest:path}", guarded(web, _nowhere), methods=["GET", "POST"]),
        ]

    async def _login(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        if request.method != "POST":
            return self._web.page(request, "login.html", problem=WRONG if "wrong" in request.query_params else "")
        try:
            form = await read_form(request)
            cookie = self._door.open(request.scope, form.get("token", "").strip())
        except Refused as error:
            return self._web.failed(request, error)
        except Braked as error:
            response = self._web.page(request, "login.html", status=429, problem=f"{error}.".capitalize())
            response.headers["Retry-After"] = str(error.seconds)
            return response
        if cookie is None:
            return self._web.page(request, "login.html", status=403, problem=WRONG)
        response = RedirectResponse(f"{root}/", 303)
        response.headers.append("Set-Cookie", cookie)
        return response

    async def _logout(self, request: Request) -> Response:
        try:
            await self._web.own_form(request)
        except Refused as error:
            return self._web.failed(request, error)
        self._door.close(request.scope)
        root = request.scope.get("root_path", "")
        response = RedirectResponse(f"{root}/login", 303)
        response.delete_cookie(COOKIE, path=root or "/", httponly=True, samesite="lax")
        return response

    def __repr__(self) -> str:
        return f"<Dashboard of {self._source.settings.broker_url}>"


async def _nowhere(_web: Web, _request: Request) -> Response:
    raise Refused(404, "there is no such page")
