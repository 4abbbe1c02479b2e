"""Pages: what they show, and what they do not let happen."""

import asyncio
import html
import math
import re
from dataclasses import replace

import pytest
from dashboard_kit import refuse, resize, total

from tranship import gather
from tranship.finished import Finished, Later
from tranship.task import named
from tranship_dashboard._format import NONE, age, ago, moment, seconds
from tranship_dashboard._graph import MOST
from tranship_dashboard._source import Source
from tranship_dashboard._tasks import _summary

PAGES = ("/", "/tasks", "/workflows", "/workers", "/dead", "/schedules", "/submit", "/queue?name=media")


async def test_an_empty_broker_has_pages_that_say_so(browser) -> None:
    for page in PAGES[:-1]:
        text = await browser.text(page)
        assert "<h1" in text
        assert "None" not in re.sub(r"<[^>]*>", "", text).replace("None fits", ""), page
    assert "no queues" in await browser.text("/")
    await browser.text("/queue?name=nowhere", 404)
    await browser.text("/task?id=nothing", 404)
    await browser.text("/letter?id=nothing", 404)
    await browser.text("/workflow?id=nothing", 404)
    await browser.text("/task", 400)
    await browser.text("/no/such/page", 404)


async def test_what_is_there_is_shown(client, worker, looked, browser) -> None:
    done = client.submit(resize, "a.png", width=7)
    done.wait(timeout=20)
    client.submit(refuse, 3)
    page = await looked("/", "mail", 'href="/dead?queue=mail">1</a>')
    assert 'aria-label="Depth: 0 now' in page
    await looked("/workers", "w1", "0 of 10 busy", "shop.resize")
    tasks = await looked("/tasks", done.id, "succeeded", "dead")
    assert "Reject" in tasks
    assert done.id not in await browser.text("/tasks?q=refuse")
    assert "no-such" not in await browser.text("/tasks?outcome=succeeded")
    detail = await browser.text(f"/task?id={done.id}")
    assert "a.png@7 fit False" in detail
    assert "attempt 1" in detail
    letters = await browser.text("/dead?q=NO-SUCH")
    assert "no-such-customer" in letters
    (letter,) = set(re.findall(r'href="(/letter\?id=[^"]+)"', letters))
    assert "&#34;args&#34;" in await browser.text(html.unescape(letter))
    assert "None fits among the 1" in await browser.text("/dead?q=elsewhere")


async def test_a_workflow_is_drawn(client, worker, looked, browser) -> None:
    handle = client.submit(gather([resize.call("a"), resize.call("b")]).then(total))
    handle.wait(timeout=20)
    page = await looked("/workflows", "3 of 3")
    (link,) = set(re.findall(r'href="(/workflow\?id=[^"]+)"', page))
    drawn = await browser.text(html.unescape(link))
    assert drawn.count('<g class="node succeeded">') == 3
    assert drawn.count('class="edge"') == 2
    assert 'aria-label="Workflow of 3 tasks"' in drawn


async def test_strangers_text_is_text(client, worker, looked, browser) -> None:
    handle = client.submit(resize, "broken")
    handle.wait(timeout=20)
    client.submit(named("<img src=x onerror=alert(1)>").options(queue="<b>q</b>", cancel_key="'\"><b>"), "x")
    for path in ("/tasks", f"/task?id={handle.id}", "/dead", "/"):
        page = await looked(path, "alert") if path != "/" else await looked(path, "&lt;b&gt;q&lt;/b&gt;")
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "<b>q" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
    assert "Traceback" in await browser.text(f"/task?id={handle.id}")
    queue = await browser.text("/queue?name=%3Cb%3Eq%3C/b%3E")
    assert "&lt;img src=x" in queue


async def test_headers_keep_strangers_scripts_out(browser) -> None:
    answer = await browser.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert 'style="' not in answer.text
    assert not re.search(r"\son\w+=", answer.text)
    for link in re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.text):
        static = await browser.get(link)
        assert static.status_code == 200
        assert "immutable" in static.headers["cache-control"]
    assert (await browser.get("/static/../_app.py")).status_code == 404


async def test_a_long_note_reaches_the_page_that_follows(browser) -> None:
    answer = await browser.do("/do/concurrency", on="/submit?task=x", worker="w", limit="\N{SNOWMAN}" * 5_000)
    assert "It was not done: limit is" in answer.text
    # Browsers drop larger ones.
    assert len(answer.history[0].headers["set-cookie"]) < 4096


def test_a_large_workflow_has_not_ended_before_its_last_task() -> None:
    later = tuple(Later(id=str(number), task="t", after=("0",)) for number in range(1, MOST + 51))
    first = Finished(id="0", task="t", queue="q", outcome="succeeded", at=1.0, later=later)
    ended = [first, *(replace(first, id=one.id, later=()) for one in later[:-10])]
    found = _summary(ended, set())
    assert (found["tasks"], found["done"], found["state"]) == (MOST + 51, MOST + 41, "running")
    ended.append(replace(first, id=later[-1].id, outcome="dead", later=()))
    assert _summary(ended, set())["state"] == "failed"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_figures_that_are_no_numbers_are_shown(value: float) -> None:
    assert age(value) == ago(value) == moment(value) == NONE
    assert seconds(value)


async def test_what_is_closed_while_it_looks_first_looks_no_more(settings, client) -> None:
    source = Source(settings)
    beginning = asyncio.create_task(source.begin())
    await asyncio.sleep(0)
    assert not beginning.done()
    await source.aclose()
    await beginning
    assert source._watching is None
