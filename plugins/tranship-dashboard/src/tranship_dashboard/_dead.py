"""Dead letters: pages by cursor, and a search that looks at so many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tranship.envelope import DeadLetter
from tranship_dashboard._web import Web

__all__ = ["letter", "letters"]

SHOWN: Final = 50
PAGE: Final = 500
LOOKED: Final = 5_000
"""Letters that one search looks at before it asks whether to go on."""


async def letters(web: Web, request: Request) -> Response:
    """Show dead letters, oldest first, behind the one that the address names."""
    given = request.query_params
    queue, wanted, after = given.get("queue", ""), given.get("q", "").strip(), given.get("after", "")
    found, last, looked = await _search(web, queue or None, wanted, after)
    counts = [one.dead for one in web.source.queues if queue in ("", one.name)]
    return web.page(
        request,
        "dead.html",
        letters=found,
        queue=queue,
        q=wanted,
        after=after,
        next=last,
        looked=looked,
        total=None if None in counts else sum(one or 0 for one in counts),
        queues=[one.name for one in web.source.queues if one.dead or one.dead is None],
    )


async def letter(web: Web, request: Request) -> Response:
    """Show one of them."""
    report = await web.source.operator.dead_letter(request.query_params.get("id", ""))
    return web.page(request, "letter.html", report=report, letter=report.letter)


async def _search(web: Web, queue: str | None, wanted: str, after: str) -> tuple[Sequence[DeadLetter], str, int]:
    """Return the letters of a page, where the next one begins (empty: nowhere), and how many were looked at."""
    operator = web.source.operator
    if not wanted:
        found = await operator.dead_letters(queue, limit=SHOWN + 1, after=after)
        more = len(found) > SHOWN
        return found[:SHOWN], found[SHOWN - 1].id if more else "", len(found[:SHOWN])
    matches: list[DeadLetter] = []
    looked = 0
    while looked < LOOKED:
        page = await operator.dead_letters(queue, limit=PAGE, after=after)
        for one in page:
            looked, after = looked + 1, one.id
            if _fits(one, wanted.lower()):
                matches.append(one)
                if len(matches) == SHOWN:
                    return matches, after, looked
        if len(page) < PAGE:
            return matches, "", looked
    return matches, after, looked


def _fits(one: DeadLetter, wanted: str) -> bool:
    texts: tuple[Any, ...] = (one.id, one.task_id, one.task, one.reason, one.detail, one.queue)
    return any(wanted in text.lower() for text in texts if text) or wanted.encode() in one.body.lower()
