"""Pages: what they show, and what they do not let happen."""

import asyncio
import html
import math
import re
import time
from dataclasses import replace

import pytest
from dashboard_kit import refuse, resize, total

from tranship import gather
from tranship.finished import Finished, Later
from tranship.task import named
from tranship_dashboard._format import LONGEST, NONE, age, ago, count, data, moment, seconds
from tranship_dashboard._graph import MOST
from tranship_dashboard._plots import plot
from tranship_dashboard._source import Source
from tranship_dashboard._tasks import _summary

PAGES = ("/", "/tasks", "/latency", "/workflows", "/workers", "/dead", "/schedules", "/submit", "/queue?name=media")


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


async def test_percentiles_are_shown_by_task(client, worker, looked, browser) -> None:
    for handle in [*client.submit_many(resize.call("a") for _ in range(3)), client.submit(resize, "broken")]:
        handle.wait(timeout=20)
    client.submit(refuse, 1).wait(timeout=20)
    page = await looked("/latency", "6 attempts that workers remember", "shop.refuse")
    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*shop\.resize.*?</tr>", page, re.DOTALL)
    figures = re.findall(r'data-label="([^"]+)">(.*?)</td>', row)
    assert [name for name, _ in figures] == [
        *("Attempts", "Failed", "Run p50", "Run p95", "Run p99", "Wait p50", "Wait p95", "Wait p99"),
    ]
    assert figures[0][1] == "5"
    assert re.sub("<[^>]*>", "", figures[1][1]) == "2"
    assert all(value.endswith((" ms", " s")) for _, value in figures[2:])
    one = await browser.text("/latency?task=shop.refuse&span=15m")
    assert "1 attempt that workers remember" in one
    assert one.count('<circle class="dot') == 6
    assert "No attempt of this task" in await browser.text("/latency?task=shop.none")


async def test_who_begins_later_shows_the_hours_before(settings, client, worker) -> None:
    first, second = Source(settings, keep_samples=True), Source(settings)
    past = time.time() // 60 * 60 - 600
    client.submit(named("x").options(queue="q"))
    for minute in range(10):
        first.sampler.take(await first.operator.queues(), at=past + 60 * minute)
    for source in (first, second):
        await source.look()
        assert source.problem == ""
    for source in (first, second):
        assert len(source.sampler.series("q")) >= 10
        assert source.sampler.series("q")[0].at < past + 60
        await source.aclose()


async def test_what_is_not_to_be_kept_is_not(settings, client) -> None:
    source = Source(settings)
    for minute in range(3):
        source.sampler.take([], at=time.time() - 300 + 60 * minute)
    await source.look()
    other = Source(settings)
    await other.look()
    assert len(other.sampler.series()) == 1
    await source.aclose()
    await other.aclose()


def test_where_nobody_has_looked_no_line_is_drawn() -> None:
    def drawn(*points: tuple[float, float | None]) -> str:
        return str(plot("Depth", [("a", points)], count, since=0.0, until=10_000.0))

    assert drawn((0.0, 1.0), (60.0, 2.0), (120.0, 3.0)).count('class="curve a"') == 1
    assert drawn((0.0, 1.0), (60.0, 2.0), (1000.0, 3.0), (1060.0, 3.0)).count('class="curve a"') == 2
    assert drawn((0.0, 1.0), (60.0, None), (120.0, 3.0)).count('class="dot a"') == 2
    assert 'class="curve' not in drawn()
    many = [(60.0 * at, float(at % 7)) for at in range(5000)]
    path = re.findall(
        r'class="curve a" d="([^"]+)"', drawn(*many[:2500], *((at + 9000, one) for at, one in many[2500:]))
    )
    assert len(path) == 2
    assert sum(one.count("L") for one in path) <= 330


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


async def test_a_page_that_follows_by_itself_takes_no_note_away(browser) -> None:
    page = await browser.text("/submit?task=x")
    (secret, *_) = re.findall(r'name="secret" value="(\w+)"', page)
    form = {"secret": secret, "back": "/", "id": "some-id"}
    answer = await browser.post("/do/cancel", data=form, follow_redirects=False)
    assert answer.status_code == 303
    assert "is recorded" not in (await browser.get("/", headers={"X-Refresh": "1"})).text
    assert "is recorded" in await browser.text("/")
    assert "is recorded" not in await browser.text("/")


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


def test_of_a_huge_value_no_more_is_written_than_is_shown() -> None:
    class Counted:
        count = 0

        def __repr__(self) -> str:
            Counted.count += 1
            return "one"

    text = data([Counted() for _ in range(100_000)])
    assert text.startswith('[\n  "one",')
    assert text.endswith("... (there is more)")
    assert len(text) < LONGEST + 100
    assert Counted.count < LONGEST
    assert data({"a": [1, "\u202e"]}).count("\n") == 5
    assert "more" not in data("x" * 10)


async def test_what_is_closed_while_it_looks_first_looks_no_more(settings, client) -> None:
    source = Source(settings)
    beginning = asyncio.create_task(source.begin())
    await asyncio.sleep(0)
    assert not beginning.done()
    await source.aclose()
    await beginning
    assert source._watching is None
