"""What can be done, by whom, and what cannot."""

import asyncio
import contextlib
import html
import re
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from dashboard_kit import TASKS, TOKEN, browser_of, refuse, resize
from starlette.applications import Starlette
from starlette.routing import Mount

from tranship.cli._app import app as program
from tranship.errors import ConfigurationError
from tranship.operations import Operator
from tranship.schedules import Scheduler
from tranship.task import named
from tranship.testing.proxy import FaultProxy
from tranship_dashboard import Dashboard
from tranship_dashboard._brake import FREE, MOST, PAUSE, Brake, Braked, address_of
from tranship_dashboard._sessions import LIFE, Sessions


class TestCommand:
    def test_it_explains_itself(self, capsys) -> None:
        assert program(["dashboard", "--help"], standalone_mode=False) == 0
        assert "--read-only" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (["--url", "memory://x"], "in the memory of one process"),
            (["--url", "sqlite:///x.db", "--token", "12345678", "--no-token"], "give one of them"),
            (["--url", "sqlite:///x.db", "--token", "1234"], "expected 8 or more"),
            (["--url", "sqlite:///x.db", "--root-path", "tasks"], "does not begin with a slash"),
            (["--url", "sqlite:///x.db", "--host", "no.such.host.invalid"], "nobody can listen at"),
            (["--url", "sqlite:///x.db", "--host", "a..b"], "nobody can listen at a..b"),
            (["--url", "sqlite:///x.db", "--token", ""], "0 characters"),
            (["--url", "sqlite:///x.db", "no_such_module"], "there is no module"),
        ],
    )
    def test_a_mistake_is_one_line(self, capsys, monkeypatch, tmp_path, given, says) -> None:
        monkeypatch.chdir(tmp_path)
        assert program(["dashboard", *given], standalone_mode=False) in (1, 2)
        error = " ".join(capsys.readouterr().err.split())
        assert says in error
        assert "Traceback" not in error


class TestWhoMayComeIn:
    async def test_nobody_without_the_token(self, dashboard) -> None:
        async with browser_of(dashboard) as stranger:
            for path in ("/", "/tasks", "/live", "/do/purge-all", "/?token=wrong", "/no/such"):
                answer = await stranger.get(path)
                assert answer.url.path == "/login", path
            assert "That is not the token" in (await stranger.post("/login", data={"token": "wrong"})).text
            assert "That is not the token" in (await stranger.get("/?token=wrong")).text
            answer = await stranger.post("/do/purge-all", follow_redirects=False)
            assert answer.status_code == 303
            stranger.cookies.set("tranship_session", "me.0000")
            assert (await stranger.get("/")).url.path == "/login"

    async def test_strangers_see_nothing_beside_the_login(self, dashboard) -> None:
        async with browser_of(dashboard) as stranger:
            for path in ("/login.html", "/loginx", "/static/no/such"):
                assert (await stranger.get(path)).url.path == "/login", path
            assert (await stranger.get("/static/app.css")).status_code == 200

    async def test_a_form_with_many_fields_is_refused_and_one_with_long_lists_is_quick(self, dashboard) -> None:
        async with browser_of(dashboard) as stranger:
            answer = await stranger.post("/login", content="a&" * 10_001)
            assert answer.status_code == 413
            assert "10,000 fields" in answer.text
            took = time.process_time()
            answer = await stranger.post("/login", content=f"a={'b' * 100}&" * 9_999)
            assert answer.status_code == 403
            # Each of them put behind all that came before would copy gigabytes.
            assert time.process_time() - took < 1

    async def test_without_a_token_strangers_names_are_not_answered(self, settings, client) -> None:
        dashboard = Dashboard(settings=settings, token=None, hosts=["Dash", "[::1]"])
        async with browser_of(dashboard) as browser:
            assert (await browser.get("/")).status_code == 200
            for host, status in (("dash:8910", 200), ("[::1]:80", 200), ("[::1]", 200), ("evil.example:8910", 421)):
                answer = await browser.get("/workers", headers={"Host": host})
                assert answer.status_code == status, host
        assert "--served-as" in answer.text
        assert "set-cookie" not in answer.headers
        await dashboard.aclose()

    async def test_the_token_does_not_stay_in_the_address(self, dashboard) -> None:
        async with browser_of(dashboard) as browser:
            answer = await browser.get(f"http://dash//evil.example/?q=1&token={TOKEN}", follow_redirects=False)
            assert answer.headers["location"] == "/evil.example/?q=1"
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert TOKEN not in cookie
        async with browser_of(dashboard) as browser:
            assert (await browser.post("/login", data={"token": TOKEN})).url.path == "/"

    async def test_guesses_are_slowed_down_and_told_so(self, dashboard, browser) -> None:
        async with browser_of(dashboard) as guesser:
            ways = (
                {"url": "/login", "method": "POST", "data": {"token": "wrong"}},
                {"url": "/?token=wrong", "method": "GET"},
                {"url": "/tasks", "method": "GET", "headers": {"Authorization": "Bearer wrong"}},
            )
            for number in range(FREE):
                answer = await guesser.request(**ways[number % len(ways)])
                assert answer.status_code in (200, 403), number
            # Nor is the right one looked at: it would tell that it is.
            for way in (*ways, {**ways[0], "data": {"token": TOKEN}}, {"url": f"/?token={TOKEN}", "method": "GET"}):
                answer = await guesser.request(**way)
                assert answer.status_code == 429, way
                assert 0 < int(answer.headers["retry-after"]) <= PAUSE
                assert "oo many wrong tokens came from this address; try again in" in answer.text
            assert (await guesser.get("/login")).status_code == 200
        # Who is in stays in, and other credentials than tokens are nobody's guess.
        assert (await browser.get("/")).status_code == 200

    async def test_what_a_proxy_asks_for_is_no_guess(self, dashboard) -> None:
        async with browser_of(dashboard) as browser:
            for _ in range(2 * FREE):
                await browser.get("/", headers={"Authorization": "Basic bWU6bXk="})
            assert (await browser.get("/", headers={"Authorization": f"bearer {TOKEN}"})).url.path == "/"

    async def test_who_has_signed_out_is_out(self, dashboard, browser) -> None:
        cookie = browser.cookies["tranship_session"]
        assert (await browser.post("/logout", data={"secret": "wrong"})).status_code == 403
        assert (await browser.get("/")).url.path == "/"
        live = asyncio.create_task(_until_it_ends(dashboard, cookie))
        assert (await browser.do("/logout")).url.path == "/login"
        assert "tranship_session" not in browser.cookies
        browser.cookies.set("tranship_session", cookie)
        assert (await browser.get("/")).url.path == "/login", "the cookie is of no use to who has kept it"
        async with asyncio.timeout(10):
            while not live.done():
                await dashboard._source.look()
                await asyncio.sleep(0.01)

    def test_a_token_is_made_or_long_enough(self) -> None:
        assert len(Dashboard("memory://x").token or "") >= 24
        with pytest.raises(ConfigurationError, match="4 characters"):
            Dashboard("memory://x", token="1234")

    async def test_a_form_of_somebody_else_does_nothing(self, browser, client, looked, operator) -> None:
        client.submit(named("x").options(queue="q"))
        await looked("/queue?name=q", "Remove everything")
        answer = await browser.post("/do/purge-queue", data={"queue": "q"})
        assert answer.status_code == 403
        assert "nothing was done" in answer.text
        page = await browser.text("/queue?name=q")
        (secret, *_) = re.findall(r'name="secret" value="(\w+)"', page)
        form = {"queue": "q", "secret": secret}
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            assert (await browser.post("/do/purge-queue", data=form, headers=headers)).status_code == 403
        assert (await browser.get("/do/purge-queue")).status_code == 404
        assert len(operator.waiting("q")) == 1
        assert (await browser.post("/do/purge-queue", content=b"x" * 2**21)).status_code == 413

    async def test_who_may_only_look_sees_no_button(self, settings, client, operator) -> None:
        client.submit(named("x").options(queue="q"))
        dashboard = Dashboard(settings=settings, tasks=TASKS, token=None, read_only=True)
        async with browser_of(dashboard) as browser:
            for page in ("/", "/tasks", "/workers", "/dead", "/schedules", "/queue?name=q", "/submit?task=x"):
                text = await browser.text(page)
                assert 'method="post"' not in text, page
            assert (await browser.post("/do/purge-queue", data={"queue": "q"})).status_code == 403
            assert (await browser.post("/submit", data={"task": "x"})).status_code == 403
        await dashboard.aclose()
        assert len(operator.waiting("q")) == 1


async def _until_it_ends(dashboard: Dashboard, cookie: str) -> None:
    """Listen to news, as a page does that stays open."""

    async def receive() -> dict:
        return await asyncio.Future()

    async def send(_message: dict) -> None: ...

    headers = [(b"cookie", f"tranship_session={cookie}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/live", "query_string": b"", "headers": headers}
    await dashboard({**scope, "scheme": "http", "http_version": "1.1", "server": ("dash", 80)}, receive, send)


class TestBrake:
    def test_it_lets_go_after_a_while(self) -> None:
        now = [0.0]
        brake = Brake(lambda: now[0])
        for _ in range(FREE):
            brake.check("a")
            brake.wrong("a")
        with pytest.raises(Braked, match="try again in 60 s"):
            brake.check("a")
        brake.check("b")
        now[0] = PAUSE
        brake.check("a")
        brake.wrong("a")
        brake.check("a")

    def test_right_tokens_and_time_make_it_forget(self) -> None:
        now = [0.0]
        brake = Brake(lambda: now[0])
        for forget in (lambda: brake.right("a"), lambda: now.__setitem__(0, now[0] + PAUSE)):
            for _ in range(FREE - 1):
                brake.wrong("a")
            forget()
            brake.check("a")
            brake.wrong("a")
            brake.check("a")

    def test_it_remembers_no_more_than_so_many(self) -> None:
        brake = Brake(lambda: 0.0)
        for number in range(MOST + 500):
            brake.wrong(f"{number}")
        assert len(brake._wrong) == MOST

    @pytest.mark.parametrize(
        ("client", "counted"),
        [
            (("192.0.2.7", 1), "192.0.2.7"),
            (("2001:db8:1:2:3::4", 1), "2001:db8:1:2::"),
            (("::ffff:192.0.2.7", 1), "192.0.2.7"),
            (("unknown", 1), "unknown"),
            (None, ""),
        ],
    )
    def test_a_network_of_ipv6_is_one_address(self, client, counted) -> None:
        assert address_of({"client": client}) == counted


class TestSessions:
    def test_they_end_by_themselves(self, monkeypatch) -> None:
        sessions = Sessions("secret")
        cookie = sessions.cookie(sessions.begin())
        assert sessions.read(cookie)
        assert Sessions("another").read(cookie) is None
        later = time.time() + LIFE + 120
        monkeypatch.setattr("tranship_dashboard._sessions.time.time", lambda: later)
        assert sessions.read(cookie) is None

    @pytest.mark.parametrize("name", ["", "x", "zz-0123456789abc", "ffffffffffff-0123456789abc", "1\n-0123456789abc"])
    def test_nonsense_is_none_even_if_it_was_signed(self, name: str) -> None:
        sessions = Sessions("secret")
        assert sessions.read(sessions.cookie(name)) is None


@pytest.fixture
def operator(settings, client):
    with Operator(settings=settings) as operator:
        yield operator


async def test_dead_letters_are_replayed_and_purged(client, worker, looked, browser, operator) -> None:
    client.submit_many(refuse.call(number) for number in range(4))
    page = await looked("/dead", "4</p>")
    ids = [html.unescape(one) for one in re.findall(r'name="ids" value="([^"]+)"', page)]
    answer = await browser.do("/do/purge", on="/dead", ids=ids[0])
    assert "1 dead letter deleted." in answer.text
    answer = await browser.do("/do/replay", on="/dead", ids=ids[1])
    assert "1 dead letter queued again." in answer.text
    await looked("/dead", "3</p>")
    assert "nothing was chosen" in (await browser.do("/do/replay", on="/dead")).text
    assert "queued again" in (await browser.do("/do/replay-all", on="/dead", queue="mail")).text
    await looked("/dead", "3</p>")
    assert "3 dead letters deleted." in (await browser.do("/do/purge-all", on="/dead")).text
    assert operator.count_dead_letters() == 0


async def test_what_waits_is_cancelled_or_removed(client, looked, browser, operator) -> None:
    first, *_ = client.submit_many(resize.call("a") for _ in range(3))
    await looked("/queue?name=media", first.id)
    answer = await browser.do("/do/cancel", on=f"/task?id={first.id}", id=first.id)
    assert f"The cancel of task {first.id} is recorded" in answer.text
    assert first.state() == "CANCELLED"
    left = operator.waiting("media")
    answer = await browser.do("/do/purge-queue", on="/queue?name=media", queue="media", ids=left[0].id)
    assert "1 waiting task removed." in answer.text
    answer = await browser.do("/do/purge-queue", on="/queue?name=media", queue="media")
    assert "1 waiting task removed." in answer.text


async def test_what_was_done_is_said_although_the_look_that_follows_hangs(dashboard, browser, monkeypatch) -> None:
    monkeypatch.setattr("tranship_dashboard._source.TIMEOUT", 0.2)
    monkeypatch.setattr(dashboard._source, "_look", asyncio.Event().wait)
    answer = await browser.do("/do/cancel", on="/submit?task=x", id="some-id")
    assert "The cancel of task some-id is recorded" in answer.text
    assert "The broker does not answer." in answer.text


async def test_what_nobody_knows_to_be_done_is_not_called_undone(dashboard, browser, monkeypatch) -> None:
    monkeypatch.setattr("tranship_dashboard._actions.TIMEOUT", 0.1)
    monkeypatch.setattr(dashboard._source.client, "cancel", lambda **_: asyncio.Event().wait())
    answer = await browser.do("/do/cancel", on="/submit?task=x", id="some-id")
    assert "within 0.1 s; whether it was done is not known" in answer.text


async def test_workers_do_what_they_are_told(worker, looked, browser) -> None:
    await looked("/workers", "w1")
    assert "1 worker did pause." in (await browser.do("/do/pause-queue", on="/queue?name=media", queue="media")).text
    assert worker.worker.status().ready
    answer = await browser.do("/do/resume-queue", on="/queue?name=media", queue="media")
    assert "1 worker did resume." in answer.text
    await browser.do("/do/concurrency", on="/workers", worker="w1", limit="3")
    await looked("/workers", "0 of 3 busy")
    for limit in ("many", "9" * 5000, "-1", "\N{SUPERSCRIPT TWO}"):
        answer = await browser.do("/do/concurrency", on="/workers", worker="w1", limit=limit)
        assert "expected a whole number" in html.unescape(answer.text), limit
    assert "no such action" in (await browser.do("/do/nonsense", on="/workers")).text
    assert "1 worker did drain." in (await browser.do("/do/drain", on="/workers", worker="w1")).text


class TestSubmit:
    async def test_a_form_is_made_of_the_schema(self, client, looked, browser, operator) -> None:
        page = await browser.text("/submit?task=shop.resize")
        assert "Make a smaller picture." in page
        assert 'type="number" step="1" name="arg:width" value="640"' in page
        assert '<option value="&#34;fill&#34;">fill' in page
        fields = {"task": "shop.resize", "arg:uri": "a.png", "arg:width": "7", "arg:mode": '"fill"', "arg:keep": "true"}
        answer = await browser.do("/submit", on="/submit?task=shop.resize", **fields, priority="high")
        (task_id,) = re.findall(r"Submitted ([\w-]+)\.", answer.text)
        (waiting,) = operator.waiting("media")
        assert (waiting.id, waiting.task, waiting.priority.label) == (task_id, "shop.resize", "high")
        with_worker = await browser.do("/submit", on="/submit?task=shop.resize", **{**fields, "delay": "soon"})
        assert with_worker.status_code == 400
        assert "expected seconds" in html.unescape(with_worker.text)

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"arg:uri": "a", "arg:width": "x"}, "width is 'x'; expected integer"),
            ({"arg:uri": "a", "arg:mode": '"wrong"'}, "mode"),
            ({"arg:uri": "a", "priority": "urgent"}, "priority 'urgent' is unknown"),
        ],
    )
    async def test_what_was_filled_in_wrong_is_named(self, browser, operator, fields, says) -> None:
        answer = await browser.do("/submit", on="/submit?task=shop.resize", task="shop.resize", **fields)
        assert answer.status_code == 400
        assert says in html.unescape(answer.text)
        assert 'name="arg:uri" value="a"' in answer.text, "what was typed stays"
        assert operator.queues() == []

    async def test_a_task_that_nobody_has_described_takes_json(self, browser, operator) -> None:
        form = {"task": "foreign.task", "args": "[1, 2]", "kwargs": '{"x": null}', "queue": "elsewhere"}
        assert "Submitted" in (await browser.do("/submit", on="/submit?task=foreign.task", **form)).text
        (waiting,) = operator.waiting("elsewhere")
        assert waiting.task == "foreign.task"
        answer = await browser.do("/submit", on="/submit?task=foreign.task", **{**form, "args": "{}"})
        assert "expected a JSON array" in html.unescape(answer.text)


async def test_schedules_are_paused_and_run(settings, client, looked, browser, operator) -> None:
    async with _beside(Scheduler(settings=settings, tasks=TASKS)):
        page = await looked("/schedules", "shop.tick", "active")
        assert "every 1 h" in page or "every 3600 s" in page
        assert "is paused" in (await browser.do("/do/pause-schedule", on="/schedules", name="shop.tick")).text
        assert operator.schedules()[0].state == "paused"
        assert "is active" in (await browser.do("/do/resume-schedule", on="/schedules", name="shop.tick")).text
        answer = await browser.do("/do/run-schedule", on="/schedules", name="shop.tick")
        assert "Submitted out of turn" in answer.text
        assert operator.waiting("mail")[0].task == "shop.tick"
        answer = await browser.do("/do/run-schedule", on="/schedules", name="nonsense")
        assert "It was not done" in answer.text


@contextlib.asynccontextmanager
async def _beside(scheduler: Scheduler) -> AsyncIterator[None]:
    work = asyncio.create_task(scheduler.serve())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})


class TestMounted:
    async def test_below_a_path_everything_stays_below_it(self, settings, client, operator) -> None:
        dashboard = Dashboard(settings=settings, tasks=TASKS, token=TOKEN)
        client.submit(named("x").options(queue="q"))
        async with browser_of(Starlette(routes=[Mount("/ops", dashboard)]), "/ops") as browser:
            answer = await browser.get("/", params={"token": TOKEN})
            assert answer.url.path == "/ops/"
            links = re.findall(r'(?:href|src|action|data-news)="(/[^"]*)"', answer.text)
            assert links
            assert all(link.startswith("/ops/") for link in links)
            assert "removed" in (await browser.do("/do/purge-queue", on="/queue?name=q", queue="q")).text
            back = await browser.do("/do/cancel", on="/submit?task=x", id="x", back="//evil.example/")
            assert back.url.host == "dash"
        await dashboard.aclose()
        assert operator.waiting("q") == []


async def test_an_outage_is_said_and_ends_by_itself(tranship_service) -> None:
    service = tranship_service("redis")
    address = urlsplit(service.url)
    with FaultProxy(address.hostname or "", address.port or 0) as proxy:
        proxy.refuse()
        dashboard = Dashboard(f"{proxy.url_for(service.url)}?namespace=dash-{uuid4().hex}", token=TOKEN)
        async with browser_of(dashboard) as browser:

            async def shown(text: str, *, there: bool) -> None:
                async with asyncio.timeout(30):
                    while (text in await browser.text("/")) is not there:
                        await dashboard._source.look()
                        # The connection is made anew meanwhile.
                        await asyncio.sleep(0.05)

            # From the start on, and in between.
            for _ in range(2):
                await browser.get("/", params={"token": TOKEN})
                await shown("The broker does not answer.", there=True)
                assert (await browser.get("/dead")).status_code == 503
                done = await browser.do("/do/purge-all", on="/submit?task=x")
                assert "It was not done" in done.text
                proxy.heal()
                await shown("The broker does not answer.", there=False)
                assert "There are none." in await browser.text("/dead")
                proxy.refuse()
                proxy.reset()
        await dashboard.aclose()


async def test_news_come_after_each_look(dashboard, browser) -> None:
    """The stream itself: httpx's transport waits for the end of an answer, so it is asked as a server asks it."""
    sent: asyncio.Queue = asyncio.Queue()
    gone = asyncio.Event()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/live",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"cookie", cookie.encode())],
        "http_version": "1.1",
        "server": ("dash", 80),
    }

    async def receive() -> dict:
        await gone.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(dashboard(scope, receive, sent.put))
    start = await asyncio.wait_for(sent.get(), 10)
    assert (start["status"], dict(start["headers"])[b"content-type"][:17]) == (200, b"text/event-stream")
    assert (await asyncio.wait_for(sent.get(), 10))["body"].startswith(b"retry")
    looking = asyncio.create_task(dashboard._source.look())
    body = (await asyncio.wait_for(sent.get(), 10))["body"]
    await looking
    assert body.startswith(b"event: look")
    gone.set()
    await asyncio.wait_for(answering, 10)
