"""One port that answers for all processes of ``--processes``: alive, ready, and in numbers, each of its own.

The processes answer on ports of their own that only this machine can reach, and tell the parent which. Nothing is kept
in files: what a process that has ended had counted ends with it, as Prometheus expects of a series that has a process
among its labels.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from tranship._portal import Portal
from tranship.worker import Answer, HealthServer

__all__ = ["FamilyHealth"]

ASKING: Final = 2.0
"""Seconds within which a process has to answer."""
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)$")
_FAMILY: Final = re.compile(r"# (?:HELP|TYPE) ([\w:]+) ")

Said = tuple[int, str]
"""Status and body."""


class FamilyHealth:
    """Answers for the processes that are there. Any thread.

    Mutable state: the ports of the processes, by number, and the server, once it is open.

    Args:
        amount: how many processes there are to be.
    """

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self._ports: dict[int, int] = {}
        self._portal: Portal | None = None
        self._server: HealthServer | None = None

    @property
    def port(self) -> int | None:
        """Where it answers; None: nowhere yet."""
        return None if self._server is None else self._server.port

    def open(self, host: str, port: int) -> None:
        """Answer there; where it is open already, nothing changes.

        Raises:
            ConfigurationError: nobody can.
        """
        if self._server is not None:
            return
        pages: Mapping[str, Callable[[], Awaitable[Answer]]] = {
            "/live": self._live,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/health": self._live,
        }
        self._portal = self._portal or Portal("tranship-health")
        server = HealthServer(host, port, pages)
        self._portal.run(server.__aenter__())
        self._server = server

    def close(self) -> None:
        """Answer no more."""
        portal, server = self._portal, self._server
        self._portal = self._server = None
        if portal is not None and server is not None:
            portal.run(server.__aexit__(None, None, None))
        if portal is not None:
            portal.stop()

    def listens(self, number: int, port: int) -> None:
        """Ask process ``number`` on this port from now on."""
        self._ports[number] = port

    def ended(self, number: int) -> None:
        """Ask it no more; the next one with this number will say where it listens."""
        self._ports.pop(number, None)

    # What is answered.

    async def _live(self) -> Answer:
        said = await self._ask("/live")
        alive = {number: one is not None and one[0] == HTTPStatus.OK for number, one in said.items()}
        # One that starts is no reason to end all of them; one whose loop does not come round is.
        return _json({"live": all(alive.values()), "processes": alive}, good=all(alive.values()))

    async def _ready(self) -> Answer:
        facts = {number: _facts(one) for number, one in (await self._ask("/ready")).items()}
        problems = [str(one["problem"]) for one in facts.values() if not one["ready"]]
        ready = any(one["ready"] for one in facts.values())
        summed = {name: sum(one.get(name, 0) for one in facts.values()) for name in ("running", "done")}
        problem = None if ready else (problems[0] if problems else "no process listens yet")
        return _json({"ready": ready, "problem": problem, **summed, "processes": facts}, good=ready)

    async def _metrics(self) -> Answer:
        said = await self._ask("/metrics")
        texts = {number: one[1] for number, one in said.items() if one is not None and one[0] == HTTPStatus.OK}
        head = (
            "# HELP tranship_worker_processes How many processes there are to be.\n"
            f"# TYPE tranship_worker_processes gauge\ntranship_worker_processes {self._amount}\n"
        )
        return Answer(HTTPStatus.OK, head + together(texts), METRICS)

    async def _ask(self, path: str) -> dict[int, Said | None]:
        """Ask all processes at once; None: it does not answer."""
        ports = dict(sorted(self._ports.items()))
        said = await asyncio.gather(*(_get(port, path) for port in ports.values()))
        return dict(zip(ports, said, strict=True))


def together(texts: Mapping[int, str]) -> str:
    """Return what processes say in Prometheus' text format as one text, each sample with its process as a label.

    A family is told once, as the format demands, with the samples of all.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, text in texts.items():
        family = ""
        for line in text.splitlines():
            if named := _FAMILY.match(line):
                family = named[1]
                known = heads.setdefault(family, [])
                if line not in known:
                    known.append(line)
            elif sample := _SAMPLE.match(line):
                labels = f'process="{number}"' + (f",{sample[2]}" if sample[2] else "")
                samples.setdefault(family, []).append(f"{sample[1]}{{{labels}}} {sample[3]}")
    return "".join(f"{line}\n" for family in heads for line in [*heads[family], *samples.get(family, ())])


async def _get(port: int, path: str) -> Said | None:
    try:
        async with asyncio.timeout(ASKING):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]), body.decode()) if len(words) > 1 else None


def _facts(said: Said | None) -> dict[str, Any]:
    if said is None:
        return {"ready": False, "problem": f"it does not answer within {ASKING:g} s"}
    facts: dict[str, Any] = json.loads(said[1])
    return facts


def _json(facts: object, *, good: bool) -> Answer:
    return Answer(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(facts) + "\n")
