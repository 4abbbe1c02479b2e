"""The dashboard as a person uses it: each button in a real browser, what a screen reader is told, many letters, idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import TASKS, TOKEN, refuse, resize, total

from tranship import Client, Worker, current, gather, task
from tranship.operations import Operator
from tranship.schedules import Scheduler
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright axe-playwright-python")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
WIDTHS = {"wide": (1280, 900), "phone": (390, 844)}


@task(name="shop.slow", queue="slow")
async def slow() -> None:
    for step in range(600):
        current().progress(step, 600, message=f"step {step}")
        await asyncio.sleep(0.1)


class Site:
    """A broker in a file, and a dashboard in a process of its own."""

    def __init__(self, directory: Path) -> None:
        url = f"sqlite:///{directory}/tasks.db"
        self.settings = Settings.load(broker_url=url, history=500, heartbeat_interval=0.5)
        module = Path(__file__).parent
        command = [sys.executable, "-m", "tranship", "dashboard", "--url", url, "--port", "0", "dashboard_kit"]
        environment = {**os.environ, "TRANSHIP_DASHBOARD_TOKEN": TOKEN, "PYTHONPATH": str(module)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=module)
        assert self.process.stdout is not None
        self.address = re.findall(r"http://\S+", self.process.stdout.readline())[0]

    def cpu(self) -> float:
        """Seconds of processor that the dashboard has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) in (0, -15)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Open the overview; what the browser complains of fails the test."""
    contexts, complaints = [], []

    def opened(width: str = "wide", scheme: str = "light") -> Any:
        across, down = WIDTHS[width]
        context = chromium.new_context(viewport={"width": across, "height": down}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{site.address}?token={TOKEN}")
        assert "token" not in page.url
        return page

    yield opened
    for context in contexts:
        context.close()
    # A wrong token is answered with 403, which the browser tells, too.
    assert [one for one in complaints if "403" not in one] == []


def says(page: Any, text: str) -> None:
    """Wait until the page says so."""
    page.get_by_text(text).first.wait_for()


def test_each_button(site: Site, open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.set_default_timeout(60_000)
    with Client(settings=site.settings) as client, Operator(settings=site.settings) as operator:
        # What waits.
        client.submit_many(resize.call(f"{number}.png") for number in range(3))
        page.get_by_role("link", name="media").first.click()
        page.locator("#waiting button").first.wait_for()
        page.get_by_role("button", name=re.compile("^Remove task")).first.click()
        says(page, "1 waiting task removed.")
        page.get_by_text("Remove everything that waits…").click()
        page.get_by_role("button", name="Remove them").click()
        says(page, "2 waiting tasks removed.")
        assert operator.waiting("media") == []
        page.get_by_role("link", name="6 h").click()
        assert page.locator('.spans [aria-current="true"]').inner_text() == "6 h"
        # A form.
        page.get_by_role("link", name="Submit").click()
        page.get_by_role("link", name="shop.resize").click()
        page.get_by_label("uri").fill("a.png")
        page.get_by_label("width").fill("7")
        page.get_by_label("mode").select_option(label="fill")
        page.get_by_label("keep").select_option(label="yes")
        page.get_by_role("button", name="Submit").click()
        says(page, "Submitted ")
        (waiting,) = operator.waiting("media")
        worker = Worker(settings=site.settings, tasks=[*TASKS, slow], name="w1")
        with BackgroundWorker(worker):
            _tasks(page, client, waiting.id)
            _workers(page, client, operator)
            _dead(page, client, operator)
            _workflow(page, client)
            page.get_by_role("link", name="Workers").click()
            page.get_by_text("Stop…").click()
            page.get_by_role("button", name="Stop it").click()
            says(page, "1 worker did stop.")


def _tasks(page: Any, client: Client, submitted: str) -> None:
    assert client.handle(submitted).result(timeout=30) == "a.png@7 fill True"
    running = client.submit(slow)
    page.get_by_role("link", name="Tasks", exact=True).click()
    # Nobody loads the page again: it follows by itself.
    page.locator("#running a", has_text="shop.slow").wait_for()
    page.locator("#finished a", has_text="shop.resize").first.wait_for()
    page.get_by_label("Search").fill("resize")
    page.get_by_role("button", name="Search").click()
    assert page.locator("#running a").count() == 0
    page.get_by_label("Task by id").fill(running.id)
    page.get_by_role("button", name="Open").click()
    page.locator("#facts progress").wait_for()
    page.get_by_role("button", name="Cancel").click()
    says(page, "is recorded")
    page.locator("#facts .state.cancelled").wait_for()
    assert running.wait(timeout=30).state == "CANCELLED"


def _workers(page: Any, client: Client, operator: Operator) -> None:
    page.get_by_role("link", name="Workers").click()
    page.get_by_label("At once").fill("3")
    page.get_by_role("button", name="Set").click()
    says(page, "1 worker did concurrency.")
    says(page, "of 3 busy")
    # One that has nothing to do would be gone at once.
    busy = client.submit(slow)
    says(page, "1 of 3 busy")
    page.get_by_text("Drain…").click()
    page.get_by_role("button", name="Drain it").click()
    says(page, "1 worker did drain.")
    page.get_by_role("button", name="Resume w1").click()
    says(page, "1 worker did resume.")
    busy.cancel()
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="media").first.click()
    page.get_by_role("button", name="Pause").click()
    says(page, "1 worker did pause.")
    page.get_by_role("button", name="Resume").click()
    says(page, "1 worker did resume.")
    assert operator.workers()[0].limit == 3


def _dead(page: Any, client: Client, operator: Operator) -> None:
    def died(count: int) -> None:
        client.submit_many(refuse.call(number) for number in range(count))
        _until(lambda: operator.count_dead_letters() == count)

    def to_letters() -> None:
        page.get_by_role("link", name="Dead letters").first.click()

    died(3)
    to_letters()
    page.get_by_label("Choose all on this page").check()
    page.get_by_role("button", name="Replay chosen").click()
    says(page, "3 dead letters queued again.")
    _until(lambda: operator.count_dead_letters() == 3)
    page.reload()
    page.locator("input[name=ids]").first.check()
    page.get_by_text("Purge chosen…").click()
    page.get_by_role("button", name="Delete them").click()
    says(page, "1 dead letter deleted.")
    for action, button, said in (("", "Replay", "1 dead letter queued again."), ("Purge…", "Delete it", "deleted.")):
        # From the letter's page, and from the task's.
        for leads_to_task in (False, True):
            _until(lambda: operator.count_dead_letters() >= 1)
            to_letters()
            page.locator("tbody th a").first.click()
            if leads_to_task:
                page.locator(".facts a").last.click()
            if action:
                page.get_by_text(action).click()
            page.get_by_role("button", name=button, exact=True).click()
            says(page, said)
    assert operator.count_dead_letters() == 0
    died(2)
    to_letters()
    page.get_by_text("Replay all…").click()
    page.get_by_role("button", name="Replay all").click()
    says(page, "2 dead letters queued again.")
    _until(lambda: operator.count_dead_letters() == 2)
    page.reload()
    page.get_by_text("Purge all…").click()
    page.get_by_role("button", name="Delete all").click()
    says(page, "2 dead letters deleted.")


def _workflow(page: Any, client: Client) -> None:
    client.submit(gather([resize.call("a"), resize.call("b")]).then(total)).wait(timeout=30)
    page.get_by_role("link", name="Workflows").click()
    page.locator("#rows a").first.click()
    page.locator("svg.graph a").first.wait_for()
    _until(lambda: (page.reload(), page.locator("svg.graph .node.succeeded").count() == 3)[1])
    page.locator("svg.graph a").first.click()
    says(page, "Attempts")


def test_schedules(site: Site, open_page: Callable[..., Any]) -> None:
    scheduler, loop = Scheduler(settings=site.settings, tasks=TASKS), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[_served(scheduler)])
    thread.start()
    try:
        page = open_page()
        page.get_by_role("link", name="Schedules").click()
        page.get_by_role("button", name="Pause shop.tick").click()
        says(page, "is paused")
        page.get_by_role("button", name="Resume shop.tick").click()
        says(page, "is active")
        page.get_by_role("button", name="Run shop.tick now").click()
        says(page, "Submitted out of turn")
    finally:
        loop.call_soon_threadsafe(lambda: [one.cancel() for one in asyncio.all_tasks(loop)])
        thread.join(30)
        loop.close()


async def _served(scheduler: Scheduler) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await scheduler.serve()


def test_the_keyboard_is_enough(site: Site, open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"{site.address}login")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    says(page, "That is not the token.")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()


def test_who_signs_out_is_out_on_every_page(site: Site, open_page: Callable[..., Any]) -> None:
    page = open_page()
    other = page.context.new_page()
    other.goto(f"{site.address}workers")
    other.get_by_role("heading", name="Workers").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    # It hears that its session is over, and shows nothing any more.
    other.get_by_label("Token").wait_for()


@pytest.mark.parametrize(
    ("width", "scheme"), [("wide", "light"), ("wide", "dark"), ("phone", "light"), ("phone", "dark")]
)
def test_a_screen_reader_and_a_phone(site: Site, open_page: Callable[..., Any], width: str, scheme: str) -> None:
    worker = BackgroundWorker(Worker(settings=site.settings, tasks=TASKS, name="w1"))
    with Client(settings=site.settings) as client, Operator(settings=site.settings) as operator, worker:
        handles = [client.submit(resize, "broken"), client.submit(resize, "x" * 300)]
        client.submit(gather([resize.call("a"), resize.call("b")]).then(total)).wait(timeout=30)
        client.submit(refuse, 1)
        handles[1].wait(timeout=30)
        _until(lambda: len(operator.finished()) >= 7 and operator.count_dead_letters() == 2)
        client.submit(resize.options(queue="nobody's", cancel_key="k"), "later")
        page = open_page(width, scheme)
        _until(lambda: (page.reload(), page.get_by_text("nobody's").count() > 0)[1])
        letter = operator.dead_letters()[0].id
        paths = [
            "",
            "tasks",
            "latency",
            "latency?task=shop.resize",
            "workflows",
            "workers",
            "dead",
            "schedules",
            "submit",
            "submit?task=shop.resize",
        ]
        paths += ["submit?task=foreign", "queue?name=media", "queue?name=nobody%27s", f"task?id={handles[0].id}"]
        paths += [f"task?id={handles[1].id}", f"letter?id={letter}", "workflow?id=" + _first(operator)]
        for path in paths:
            page.goto(site.address + path)
            found = axe.Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
    page.goto(f"{site.address}login")
    assert axe.Axe().run(page).violations_count == 0


def _first(operator: Operator) -> str:
    return next(one.id for one in operator.finished() if one.later)


def test_a_hundred_thousand_dead_letters(site: Site, open_page: Callable[..., Any]) -> None:
    count = int(os.environ.get("TRANSHIP_TEST_LETTERS", "100000"))
    with Client(settings=site.settings) as client, Operator(settings=site.settings) as operator:
        for start in range(0, count, 5000):
            client.submit_many(refuse.call(number) for number in range(start, start + 5000))
        quiet = site.settings.replace(max_concurrent_tasks=500, history=0)
        with _silent(), BackgroundWorker(Worker(settings=quiet, tasks=TASKS)):
            _until(lambda: sum(one.dead or 0 for one in operator.queues()) == count, within=500)
        page = open_page()
        took: dict[str, float] = {}
        """Seconds of processor; on a clock they would say more of what else the machine does."""

        def timed(what: str, act: Callable[[], Any]) -> None:
            before = site.cpu()
            act()
            page.wait_for_load_state("load")
            took[what] = max(took.get(what, 0.0), site.cpu() - before)

        timed("first", lambda: page.goto(f"{site.address}dead"))
        for _ in range(10):
            timed("next", lambda: page.get_by_role("link", name="Next page").click())
        last = operator.dead_letters(limit=500, after="")[-1].id
        timed("far", lambda: page.goto(f"{site.address}dead?after={last}"))
        timed("search", lambda: page.goto(f"{site.address}dead?q=no-such-customer"))
        timed("nothing", lambda: page.goto(f"{site.address}dead?q=nobody"))
        timed("overview", lambda: page.goto(site.address))
    print({what: round(seconds, 3) for what, seconds in took.items()})
    assert max(took.values()) < 2, took


def test_an_idle_page_costs_next_to_nothing(site: Site, open_page: Callable[..., Any]) -> None:
    with BackgroundWorker(Worker(settings=site.settings.replace(heartbeat_interval=5.0), tasks=TASKS, name="w1")):
        page = open_page()
        says(page, "media")
        seconds = 60.0
        before, begun = site.cpu(), time.monotonic()
        page.wait_for_timeout(seconds * 1000)
        used = (site.cpu() - before) / (time.monotonic() - begun)
    print(f"{used:.2%} of one processor")
    assert used < 0.01


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _until(condition: Callable[[], object], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.05)
