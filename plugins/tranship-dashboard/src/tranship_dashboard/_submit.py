"""Submitting a task by a form that its schema makes, or by JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tranship.errors import InvalidArgumentsError, TranshipError
from tranship.task import named
from tranship_dashboard._forms import Field, arguments, fields_of, options, whole_json
from tranship_dashboard._web import Web, href, status_of

__all__ = ["submit"]


async def submit(web: Web, request: Request) -> Response:
    """Show the form of a task, or do what it says."""
    if request.method == "POST":
        return await _submitted(web, request)
    return _form(web, request, request.query_params.get("task", ""), {}, "")


async def _submitted(web: Web, request: Request) -> Response:
    form = await web.form(request)
    name = form.get("task", "").strip()
    try:
        if not name:
            raise InvalidArgumentsError("the form has no task; choose one, or write its name")
        args, kwargs = _called(web.source.description(name), form)
        task = (web.source.tasks.get(name) or named(name)).options(**options(form))
        handle = await web.source.client.submit(task, *args, **kwargs)
    except TranshipError as error:
        return _form(web, request, name, form, str(error), status=status_of(error))
    except (TypeError, ValueError) as error:
        return _form(web, request, name, form, str(error), status=400)
    note = (
        f"Task {handle.id} was there first; nothing was submitted." if handle.duplicate else f"Submitted {handle.id}."
    )
    return web.back(request, href(request, "/submit", task=name), note)


def _called(description: Mapping[str, Any] | None, form: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    if description is not None and "json" not in form:
        return [], arguments(fields_of(description), form)
    return (
        whole_json(form.get("args", ""), "args", list, []),
        whole_json(form.get("kwargs", ""), "kwargs", dict, {}),
    )


def _form(
    web: Web, request: Request, name: str, filled: Mapping[str, str], problem: str, *, status: int = 200
) -> Response:
    description = web.source.description(name) if name else None
    fields: list[Field] = [] if description is None else fields_of(description)
    return web.page(
        request,
        "submit.html",
        status=status,
        names=web.source.task_names(),
        name=name,
        description=description,
        fields=fields,
        filled=filled,
        problem=problem,
        queues=[one.name for one in web.source.queues],
    )
