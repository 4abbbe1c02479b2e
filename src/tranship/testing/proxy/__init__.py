"""A TCP proxy that misbehaves on request, to stand between a client and its broker.

::

    with FaultProxy("127.0.0.1", 6379) as proxy:
        client = Client(proxy.url_for("redis://localhost/0"))
        proxy.reset()             # every connection ends with a TCP reset
        proxy.blackhole()         # the network swallows everything
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tranship.errors import ClosedError, InvalidOptionError
from tranship.testing.proxy._link import Faults, Link

__all__ = ["FaultProxy"]

T = TypeVar("T")

_HOST = "127.0.0.1"
_CALL_TIMEOUT = 10.0


class FaultProxy:
    """Forwards TCP connections to a target, with faults that can be switched while they are in use.

    It lives on an event loop in a thread of its own, so that a test that blocks, or that stalls its own
    loop, can use it. Methods may be called from any thread; they return once the fault is in force, in
    well under a millisecond. Works as a context manager and as an asynchronous one.

    Args:
        target_host: where connections are forwarded to.
        target_port: its port.
        listen_port: where to listen on the loopback; 0 takes a free port.
    """

    def __init__(self, target_host: str, target_port: int, *, listen_port: int = 0) -> None:
        self._target = (target_host, target_port)
        self._faults = Faults()
        self._links: set[Link] = set()
        self._accepted = 0
        self._listen_port = listen_port
        self._server: asyncio.Server
        self._closed_door: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """The address it listens on."""
        return _HOST

    @property
    def port(self) -> int:
        """The port it listens on; kept until :meth:`stop`."""
        return self._listen_port

    @property
    def url(self) -> str:
        """``tcp://host:port`` of the proxy."""
        return f"tcp://{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return self._call(lambda: len(self._links))

    @property
    def accepted(self) -> int:
        """How many connections were accepted since the start."""
        return self._call(lambda: self._accepted)

    def url_for(self, url: str) -> str:
        """Return a broker's URL with its host and port replaced by the proxy's."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{_HOST}:{self.port}"))

    def start(self) -> Self:
        """Listen. Raises OSError when ``listen_port`` is taken."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="tranship-fault-proxy", daemon=True)
        self._thread.start()
        started.result(_CALL_TIMEOUT)
        return self

    def stop(self) -> None:
        """Reset what is open and stop listening. Idempotent."""
        thread, self._thread = self._thread, None
        if thread and self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(_CALL_TIMEOUT)

    def latency(self, seconds: float) -> None:
        """Delay every byte by ``seconds`` in each direction: a round trip takes twice that longer."""
        if seconds < 0:
            raise InvalidOptionError(f"latency={seconds!r}: expected 0 or more seconds.")
        self._call(lambda: setattr(self._faults, "latency", seconds))

    def rate(self, bytes_per_second: float | None) -> None:
        """Limit each direction of each connection; None lifts the limit."""
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise InvalidOptionError(f"rate={bytes_per_second!r}: expected more than 0 bytes per second, or None.")
        self._call(lambda: setattr(self._faults, "rate", bytes_per_second))

    def blackhole(self, on: bool = True) -> None:
        """Swallow everything, both ways, without a word; new connections are accepted and lead nowhere.

        Switching it off resets the connections that lost something, as a firewall does that forgot them:
        a TCP stream with a hole in it exists nowhere. The others go on.
        """
        self._call(lambda: self._set("blackhole", on))

    def mute(self, on: bool = True) -> None:
        """Let requests pass and swallow every answer: what was asked for is done, and nobody hears of it.

        Switching it off resets the connections that lost something, as for :meth:`blackhole`.
        """
        self._call(lambda: self._set("mute", on))

    def refuse(self, on: bool = True) -> None:
        """Refuse new connections (ECONNREFUSED); those that are open go on. The port stays ours."""
        self._await(self._set_refuse(on))

    def reset(self) -> int:
        """End every open connection with a TCP reset (RST) on both sides; return how many."""
        return self._await(self._reset())

    def half_close(self) -> int:
        """Send end-of-stream to every client, while what clients write still reaches the target; return how many.

        What the target sends from then on is swallowed.
        """
        return self._call(lambda: sum(link.half_close() for link in self._links))

    def heal(self) -> None:
        """Lift every fault that lasts."""
        self.latency(0.0)
        self.rate(None)
        self.refuse(False)
        self.blackhole(False)
        self.mute(False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # On the caller's thread

    def _await(self, action: Coroutine[Any, Any, T]) -> T:
        """Run ``action`` on the proxy's loop and wait for its answer."""
        if self._loop is None or self._thread is None:
            action.close()
            raise ClosedError("The fault proxy does not run; call start() or use it in a with statement.")
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(_CALL_TIMEOUT)

    def _call(self, action: Callable[[], T]) -> T:
        async def call() -> T:
            return action()

        return self._await(call())

    # On the proxy's thread

    def _run(self, started: concurrent.futures.Future[None]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._listen())
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result(None)
            self._loop.run_forever()
            runner.run(self._shut())

    async def _listen(self) -> None:
        bound = self._closed_door or _bind(self._listen_port)
        self._closed_door = None
        self._listen_port = bound.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=bound)

    async def _shut(self) -> None:
        self._server.close()
        if self._closed_door:
            self._closed_door.close()
        await self._reset()

    async def _set_refuse(self, on: bool) -> None:
        if on and self._closed_door is None:
            await _accept_no_more(self._server)
            self._server.close()
            # Bound but not listening: the kernel refuses, and nobody else can take the port.
            self._closed_door = _bind(self._listen_port)
        elif not on and self._closed_door is not None:
            await self._listen()

    def _set(self, fault: str, on: bool) -> None:
        setattr(self._faults, fault, on)
        if not on:
            for link in [link for link in self._links if link.lost]:
                link.abort()

    async def _reset(self) -> int:
        links = list(self._links)
        self._links.clear()
        for link in links:
            link.abort()
        # An aborted transport closes its socket in the loop's next round.
        await asyncio.sleep(0)
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        link = Link(self._faults, reader, writer)
        self._links.add(link)
        try:
            await link.run(self._target)
        except asyncio.CancelledError:
            # The proxy stops. asyncio's callback of a connection would report a cancelled task as an error.
            pass
        finally:
            link.abort()
            self._links.discard(link)


async def _accept_no_more(server: asyncio.Server) -> None:
    """Take in nothing new, and let what has just been accepted find the server open: asyncio would leave it behind."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    try:
        if sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, port))
    except OSError:
        bound.close()
        raise
    return bound
