"""Clients over their life: opening, sharing, several loops, forks, closing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Final

from tranship.connections import process_table
from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import Capability
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeClient, FacadeHandle, in_thread
from tranship.testing.program import printed_by
from tranship.testing.suites.facade.submit import echo
from tranship.testing.suites.ports.open_resources import OpenResources, given_back

__all__ = ["FacadeLifecycleCases"]

PUSH: Final = {Capability.RESULT_PUSH}


class FacadeLifecycleCases:
    """Part of the facade's suite."""

    @facade_case(
        "close_idempotent_and_while_blocked",
        level="capability",
        needs={Capability.RESULTS},
        rationale="a shutdown must neither hang nor leave somebody hanging",
    )
    async def test_close_idempotent_and_while_blocked(self, facade: FacadeContext) -> None:
        """Closed under waiters of every sort: each raises ClosedError at once; closing again is nothing."""
        client = await facade.client()
        handle = await client.submit(echo, 1)
        waits = [
            facade.context.start(handle.result()),
            facade.context.start(client.collect([handle])),
            facade.context.start(_first(client, handle)),
        ]
        await facade.until_waited_for(client)
        started = time.monotonic()
        await asyncio.gather(client.close(), client.close())
        for wait in waits:
            try:
                found = await asyncio.wait_for(wait, facade.context.patience)
            except ClosedError:
                continue
            raise AssertionError(f"expected ClosedError, got {found!r}")
        assert time.monotonic() - started < 5.0
        await client.close()
        never_opened = facade.make_client()
        await never_opened.close()
        await never_opened.close()

    @facade_case(
        "no_leaked_connections_after_close",
        level="core",
        rationale="an application that opens and closes must not grow",
    )
    async def test_no_leaked_connections_after_close(self, facade: FacadeContext) -> None:
        """Links, connections, files and threads are back where they were."""
        await _use(facade)
        before = await OpenResources.now(facade.context)
        links = process_table().links()
        for _ in range(5):
            await _use(facade)
        await given_back(facade.context, before)
        assert process_table().links() == links

    @facade_case("clients_share_one_link", level="core", rationale="a client per request must not be a connection each")
    async def test_clients_share_one_link(self, facade: FacadeContext) -> None:
        """Ten clients, one link; closing nine leaves the tenth at work, closing that leaves nothing."""
        before = process_table().links()
        clients = [await facade.client() for _ in range(10)]
        assert process_table().links() == before + 1
        assert facade.client_faults.calls["open"] == (1 if facade.context.harness.results is None else 2)
        for client in clients[1:]:
            await client.submit(echo, 1)
            await client.close()
        await clients[0].submit(echo, 1)
        await clients[0].close()
        assert process_table().links() == before

    @facade_case(
        "open_failure_is_not_forever", level="core", rationale="a client must outlive a broker that starts late"
    )
    async def test_open_failure_is_not_forever(self, facade: FacadeContext) -> None:
        """Opening fails twice, for several callers at once: each hears of it; then the same client works."""
        client = facade.make_client()
        facade.client_faults.fail("open", BrokerUnreachable, times=2)
        failed = 0
        for _ in range(2):
            answers = await asyncio.gather(*(client.submit(echo, 1) for _ in range(3)), return_exceptions=True)
            failed += sum(isinstance(answer, BrokerUnreachable) for answer in answers)
        assert failed >= 2
        assert facade.client_faults.hit["open"] == 2
        await client.submit(echo, 2)

    @facade_case(
        "threads_open_once", level="core", rationale="a lost claim on a connection keeps it open", kinds=["blocking"]
    )
    async def test_threads_open_once(self, facade: FacadeContext) -> None:
        """Many threads use a client that is not open yet: one link, and none when it is closed."""
        before = process_table().links()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(10):
                client = facade.make_client()
                await asyncio.gather(*(client.ping() for _ in range(16)))
                assert process_table().links() == before + 1
                await client.close()
                assert process_table().links() == before, "a claim was lost"
        finally:
            sys.setswitchinterval(interval)

    @facade_case(
        "run_twice_with_one_client",
        level="core",
        needs=PUSH,
        rationale="scripts call asyncio.run() again",
        kinds=["async"],
    )
    async def test_run_twice_with_one_client(self, facade: FacadeContext) -> None:
        """One client object in two event loops, one after the other, closed or not in between."""
        client = facade.make_client()
        await facade.work(echo)

        async def use(value: int) -> object:
            handle = await client.native.submit(echo, value)
            return await handle.result(facade.context.patience)

        found = [await in_thread(asyncio.run, use(number)) for number in range(3)]
        assert found == [0, 1, 2]

    @facade_case(
        "verbs_while_closing", level="core", rationale="a health check may meet a shutdown", kinds=["blocking"]
    )
    async def test_verbs_while_closing(self, facade: FacadeContext) -> None:
        """Threads ask all the time while the client is closed: each ends with ClosedError, and no thread is left."""
        before, links = await OpenResources.now(facade.context), process_table().links()
        for _ in range(20):
            client = await facade.client()
            asking = [facade.context.start(in_thread(_ask_until_closed, client)) for _ in range(4)]
            await client.ping()
            await client.close()
            kinds = await asyncio.wait_for(asyncio.gather(*asking), facade.context.patience)
            assert kinds == [ClosedError] * 4, kinds
        await given_back(facade.context, before)
        assert process_table().links() == links

    @facade_case(
        "fork_in_the_middle",
        level="core",
        needs=PUSH | {Capability.INSPECT_DEPTH},
        rationale="servers fork; a child must not speak on its parent's connection",
        kinds=["blocking"],
    )
    async def test_fork_in_the_middle(self, facade: FacadeContext) -> None:
        """A child of os.fork() uses the clients it inherited, both kinds; the parent's go on undisturbed."""
        if not hasattr(os, "fork"):
            facade.context.skip("this system has no fork")
        told = dict(
            json.loads(line) for line in await printed_by(_FORK, facade.context.url(), facade.context.results_url())
        )
        assert told == {"child": ["child", "child-async"], "parent": ["before", "after", "after-async"]}, told

    @facade_case(
        "first_use_after_main_thread",
        level="core",
        needs=PUSH,
        rationale="a thread that outlives the main one may be the first to submit; Python refuses many things by then",
        kinds=["blocking"],
    )
    async def test_first_use_after_main_thread(self, facade: FacadeContext) -> None:
        """The main thread has ended: a client that was made before, and one made then, connect and submit."""
        if (3, 12, 0) <= sys.version_info < (3, 12, 2):
            facade.context.skip("this Python starts no threads when the main one has ended (CPython issue 113964)")
        told = await printed_by(_LATE, facade.context.url(), facade.context.results_url())
        assert told == ["submitted", "submitted"]


_LATE = """
    import sys, threading
    from tranship import Client, named

    url, results = sys.argv[1:]
    early = Client(url, result_url=results)

    def late():
        threading.main_thread().join()
        for client in (early, Client(url, result_url=results)):
            client.submit(named("kit.echo", queue="q"), 1)
            client.close()
            print("submitted", flush=True)

    threading.Thread(target=late).start()
"""

_FORK = """
    import asyncio, json, os, sys, traceback
    from tranship import AsyncClient, Client, Worker, task

    @task(name="kit.own", queue="q")
    async def own(value): return value

    url, results = sys.argv[1:]
    client, other = Client(url, result_url=results), AsyncClient(url, result_url=results)

    def tell(who, values):
        os.write(1, (json.dumps([who, values]) + "\\n").encode())

    def work():
        Worker(url, tasks=[own], result_url=results).run_until_idle(20)

    async def ask(value, fork=False):
        handle = await other.submit(own, value)
        waiting = asyncio.create_task(handle.result(20))
        await asyncio.sleep(0)
        child = os.fork() if fork else None
        if child == 0:
            # Right here: going back through the loop would touch what belongs to the parent.
            in_child()
        await asyncio.to_thread(work)
        answer = await waiting
        return (child, answer) if fork else answer

    def in_child():
        try:
            handle = client.submit(own, "child")
            work()
            tell("child", [handle.result(20), asyncio.run(ask("child-async"))])
            client.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    first = client.submit(own, "before")
    child, answer = asyncio.run(ask("after-async", fork=True))
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    last = client.submit(own, "after")
    work()
    tell("parent", [first.result(20), last.result(20), answer])
    client.close()
"""


async def _use(facade: FacadeContext) -> None:
    client = await facade.client()
    handle = await client.submit(echo, 1)
    if await facade.context.has(Capability.RESULTS):
        await handle.state()
        await client.collect([handle], 0.01)
    await client.close()


def _ask_until_closed(client: FacadeClient) -> type[BaseException]:
    while True:
        try:
            client.native.ping()
        except TranshipError as error:
            return type(error)


async def _first(client: FacadeClient, handle: FacadeHandle) -> object:
    async for one in client.as_completed([handle]):
        return one
    return None
