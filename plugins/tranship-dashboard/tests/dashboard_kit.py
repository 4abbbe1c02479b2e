"""Tasks to look at, and a browser without a screen."""

from __future__ import annotations

import re
from typing import Any, Literal

import httpx

from tranship import FixedBackoff, RetryPolicy, task
from tranship.errors import Reject

TOKEN = "the-token-of-tests"
HOSTILE = "<script>alert('x')</script>&\"'\u202e\x1b[31m\ud800"


@task(name="shop.resize", queue="media", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
def resize(uri: str, width: int = 640, mode: Literal["fit", "fill"] = "fit", keep: bool = False) -> str:
    """Make a smaller picture."""
    if uri == "broken":
        raise ValueError(HOSTILE)
    return f"{uri}@{width} {mode} {keep}"


@task(name="shop.refuse", queue="mail")
def refuse(number: int) -> None:
    raise Reject("no-such-customer")


@task(name="shop.total", queue="media")
def total(found: list[str]) -> int:
    return len(found)


@task(name="shop.tick", queue="mail", every=3600)
def tick() -> None: ...


TASKS = [resize, refuse, total, tick]


class Browser(httpx.AsyncClient):
    """Follows links, keeps cookies, and fills in the forms of pages."""

    async def text(self, path: str, status: int = 200) -> str:
        answer = await self.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-2000:])
        return answer.text

    async def do(self, action: str, *, on: str = "/", **fields: str) -> httpx.Response:
        """Send a form as the page ``on`` has it, and see where that leads."""
        page = await self.text(on)
        (secret, *_) = re.findall(r'name="secret" value="(\w+)"', page)
        back = str(self.base_url.path).rstrip("/") + on
        form = {"secret": secret, "back": back, **fields}
        return await self.post(action, data=form, headers={"Sec-Fetch-Site": "same-origin"})


def browser_of(app: Any, path: str = "") -> Browser:
    transport = httpx.ASGITransport(app)
    return Browser(transport=transport, base_url=f"http://dash{path}", follow_redirects=True)
