"""Handlers that fork: what becomes of the children, and of the worker."""

from __future__ import annotations

import json
import os

from tranship.ports import Capability
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.program import printed_by

__all__ = ["ForkCases"]

RESULTS = {Capability.RESULTS}


class ForkCases:
    """Part of the worker's suite: handlers that fork."""

    @worker_case(
        "handler_forks",
        level="capability",
        needs=RESULTS,
        rationale="a forked child has a copy of the worker, and of its connection to the broker",
        limit=60.0,
    )
    async def test_handler_forks(self, facade: FacadeContext) -> None:
        """A child ends where the handler ends, or at its first await, with middleware and without; no other handler
        goes on in it, and the worker is not disturbed.
        """
        if not hasattr(os, "fork"):
            facade.context.skip("this system has no fork")
        lines = await printed_by(_FORKS, facade.context.url(), facade.context.results_url(), silent=False)
        told = list(map(json.loads, lines))
        ends = [
            ["async", "returns", 0],
            ["async", "raises", 1],
            ["async", "leaves", 7],
            ["async", "awaits", 1],
            ["thread", "returns", 0],
            ["thread", "raises", 1],
            ["thread", "leaves", 7],
        ]
        assert [one for one in told if one[0] != "beside"] == [*ends, *ends], told
        assert len({one[1] for one in told if one[0] == "beside"}) == 1, "a handler went on in a child"


_FORKS = """
    import asyncio, json, os, sys
    from tranship import Client, Middleware, Worker, task
    from tranship.testing.background import BackgroundWorker

    def tell(*values):
        os.write(1, (json.dumps(values) + "\\n").encode())

    def end(how):
        if how == "raises":
            raise ValueError("in a child")
        if how == "leaves":
            sys.exit(7)

    @task(name="kit.fork", queue="q")
    async def fork(how):
        child = os.fork()
        if child == 0:
            if how == "awaits":
                await asyncio.sleep(30)
            end(how)
        return child

    @task(name="kit.fork_thread", queue="q")
    def fork_thread(how):
        child = os.fork()
        if child == 0:
            end(how)
        return child

    over = False

    @task(name="kit.beside", queue="q")
    async def beside():
        while not over:
            tell("beside", os.getpid())
            await asyncio.sleep(0.01)

    @task(name="kit.plain", queue="q")
    async def plain(value): return value

    class Around(Middleware):
        async def run(self, call, call_next):
            try:
                return await call_next(call)
            finally:
                await asyncio.sleep(0)

    url, results = sys.argv[1:]
    ways = [("async", fork, how) for how in ("returns", "raises", "leaves", "awaits")]
    ways += [("thread", fork_thread, how) for how in ("returns", "raises", "leaves")]
    for middleware in ([], [Around()]):
        over = False
        worker = Worker(url, tasks=[fork, fork_thread, beside, plain], result_url=results, middleware=middleware)
        with BackgroundWorker(worker), Client(url, result_url=results) as client:
            going = client.submit(beside)
            for kind, handler, how in ways:
                child = client.submit(handler, how).result(20)
                tell(kind, how, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                handles = client.submit_many(plain.call(number) for number in range(20))
                assert [handle.result(20) for handle in handles] == list(range(20))
            over = True
            going.result(20)
"""
