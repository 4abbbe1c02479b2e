import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from servers.echo import make_echo_recipe
from tranship.errors import ClosedError, InvalidOptionError
from tranship.testing.proxy import FaultProxy
from tranship.testing.services import ProcessService

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the echo server is started as a POSIX process group")

SILENCE = 0.2
"""How long nothing must come before a test calls it silence, in seconds."""


@pytest.fixture(scope="module")
def server() -> Iterator[ProcessService]:
    with ProcessService(make_echo_recipe()) as service:
        yield service


@pytest.fixture
def proxy(server: ProcessService) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.place.port) as proxy:
        yield proxy


@pytest.fixture
def link(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection through the proxy that works."""
    with connect(proxy) as link:
        assert echo(link, b"first") == b"first\n"
        yield link


@contextlib.contextmanager
def target_behind_proxy() -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    """A proxy with the client's end and the target's end of one connection."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(FaultProxy(*target.getsockname()))
        link = stack.enter_context(connect(proxy))
        served = stack.enter_context(target.accept()[0])
        served.settimeout(5)
        yield proxy, link, served


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def echo(link: socket.socket, line: bytes) -> bytes:
    link.sendall(line + b"\n")
    return read(link, len(line) + 1)


def read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := link.recv(size - len(data))):
        data += chunk
    return data


def is_silent(link: socket.socket) -> bool:
    link.settimeout(SILENCE)
    try:
        with contextlib.suppress(TimeoutError):
            link.recv(1)
            return False
        return True
    finally:
        link.settimeout(5)


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        threading.Event().wait(0.005)
    return True


def test_bytes_pass_unchanged_both_ways(link: socket.socket) -> None:
    line = bytes(byte for byte in range(256) if byte != ord("\n")) * 4000
    sender = threading.Thread(target=link.sendall, args=(line + b"\n",))
    sender.start()
    assert read(link, len(line) + 1) == line + b"\n"
    sender.join()


def test_connections_are_counted(proxy: FaultProxy, server: ProcessService) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        echo(one, b"1")
        echo(two, b"2")
        assert (proxy.connections, proxy.accepted) == (2, 2)
    assert eventually(lambda: proxy.connections == 0)
    assert proxy.accepted == 2
    assert eventually(lambda: server.client_count() == 1)


def test_end_of_stream_passes_and_the_other_direction_goes_on() -> None:
    with target_behind_proxy() as (_, link, served):
        link.sendall(b"question")
        link.shutdown(socket.SHUT_WR)
        assert read(served, 100) == b"question"
        served.sendall(b"answer")
        served.close()
        assert read(link, 100) == b"answer"


def test_latency_is_added_to_each_direction_and_not_per_message(proxy: FaultProxy, link: socket.socket) -> None:
    proxy.latency(0.3)
    began = time.monotonic()
    for number in range(10):
        link.sendall(b"%d\n" % number)
        threading.Event().wait(0.005)
    assert read(link, 20) == b"".join(b"%d\n" % number for number in range(10))
    assert 0.6 <= time.monotonic() - began < 3
    proxy.latency(0)
    # With the latency none could be so fast; without it one of them is, however busy the machine.
    assert any(echoed_within(link, 0.6) for _ in range(20))


def echoed_within(link: socket.socket, seconds: float) -> bool:
    began = time.monotonic()
    echo(link, b"fast again")
    return time.monotonic() - began < seconds


def test_rate_limits_throughput_to_a_trickle(proxy: FaultProxy, link: socket.socket) -> None:
    proxy.rate(10_000)
    began = time.monotonic()
    link.sendall(b"x" * 2999 + b"\n")
    first = link.recv(3000)
    assert len(first) < 3000
    read(link, 3000 - len(first))
    assert time.monotonic() - began > 0.25
    proxy.rate(None)
    assert echo(link, b"full speed") == b"full speed\n"


def test_reset_is_a_tcp_reset_on_both_sides() -> None:
    with target_behind_proxy() as (proxy, link, served):
        assert proxy.reset() == 1
        assert proxy.connections == 0
        for end in (link, served):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_a_reset_of_the_target_reaches_the_client() -> None:
    with ProcessService(make_echo_recipe()) as server, FaultProxy("127.0.0.1", server.place.port) as proxy:
        with connect(proxy) as link:
            echo(link, b"hello")
            server.kill()
            with contextlib.suppress(ConnectionResetError):
                assert link.recv(1) == b""
        assert eventually(lambda: proxy.connections == 0)
        # The reset may come while connecting, or after.
        with pytest.raises(ConnectionResetError), connect(proxy) as late:
            late.recv(1)
        server.start()
        with connect(proxy) as link:
            assert echo(link, b"back") == b"back\n"


def test_blackhole_swallows_both_ways_without_a_word(proxy: FaultProxy, link: socket.socket) -> None:
    proxy.blackhole()
    link.sendall(b"anybody there?\n")
    assert is_silent(link)
    with connect(proxy) as late:
        late.sendall(b"hello?\n")
        assert is_silent(late)
        proxy.blackhole(False)
        for victim in (link, late):
            with pytest.raises(ConnectionResetError):
                victim.recv(1)
    with connect(proxy) as fresh:
        assert echo(fresh, b"light") == b"light\n"


def test_a_connection_that_lost_nothing_outlives_the_blackhole(proxy: FaultProxy, link: socket.socket) -> None:
    proxy.blackhole()
    proxy.heal()
    assert echo(link, b"still here") == b"still here\n"


def test_the_target_does_not_hear_of_a_client_that_left_in_the_blackhole(
    proxy: FaultProxy, server: ProcessService
) -> None:
    before = server.client_count()
    link = connect(proxy)
    echo(link, b"hello")
    proxy.blackhole()
    link.close()
    assert not eventually(lambda: server.client_count() == before, SILENCE)
    proxy.blackhole(False)
    assert eventually(lambda: server.client_count() == before)


def test_a_mute_proxy_lets_requests_pass_and_loses_the_answers() -> None:
    with target_behind_proxy() as (proxy, link, served):
        proxy.mute()
        link.sendall(b"a")
        assert served.recv(1) == b"a"
        served.sendall(b"swallowed")
        assert is_silent(link)
        proxy.mute(False)
        with pytest.raises(ConnectionResetError):
            link.recv(1)


def test_refused_connections_are_refused_by_the_kernel_and_open_ones_go_on(
    proxy: FaultProxy, link: socket.socket
) -> None:
    port = proxy.port
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert echo(link, b"unaffected") == b"unaffected\n"
    proxy.refuse(False)
    proxy.refuse(False)
    assert proxy.port == port
    with connect(proxy) as late:
        assert echo(late, b"welcome") == b"welcome\n"


def test_a_half_closed_client_reads_the_end_and_can_still_write() -> None:
    with target_behind_proxy() as (proxy, link, served):
        link.sendall(b"a")
        assert served.recv(1) == b"a"
        assert proxy.half_close() == 1
        assert proxy.half_close() == 0
        assert link.recv(1) == b""
        link.sendall(b"b")
        assert served.recv(1) == b"b"
        served.sendall(b"swallowed")


def test_heal_lifts_everything(proxy: FaultProxy) -> None:
    proxy.latency(5)
    proxy.rate(1)
    proxy.refuse()
    proxy.blackhole()
    proxy.heal()
    with connect(proxy) as link:
        assert echo(link, b"x" * 500) == b"x" * 500 + b"\n"


async def test_it_serves_asynchronous_tests_and_a_stalled_loop(server: ProcessService) -> None:
    async with FaultProxy("127.0.0.1", server.place.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        with connect(proxy) as link:
            assert echo(link, b"blocking this loop") == b"blocking this loop\n"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


def test_stop_resets_closes_and_may_be_repeated(server: ProcessService) -> None:
    threads = threading.active_count()
    proxy = FaultProxy("127.0.0.1", server.place.port).start()
    with connect(proxy) as link:
        echo(link, b"hello")
        proxy.stop()
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert threading.active_count() == threads
    with pytest.raises(ClosedError, match="does not run"):
        proxy.reset()


def test_a_taken_port_is_reported_by_start(server: ProcessService) -> None:
    with pytest.raises(OSError, match="in use"):
        FaultProxy("127.0.0.1", 1, listen_port=server.place.port).start()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost:6379/0?namespace=a", "redis://127.0.0.1:{port}/0?namespace=a"),
        ("amqp://user:p%40ss@broker/vhost", "amqp://user:p%40ss@127.0.0.1:{port}/vhost"),
    ],
)
def test_url_for_replaces_host_and_port_only(proxy: FaultProxy, url: str, expected: str) -> None:
    assert proxy.url_for(url) == expected.format(port=proxy.port)
    assert proxy.url == f"tcp://127.0.0.1:{proxy.port}"


@pytest.mark.parametrize(("fault", "value"), [("latency", -1), ("rate", 0)])
def test_impossible_values_are_refused(proxy: FaultProxy, fault: str, value: float) -> None:
    with pytest.raises(InvalidOptionError, match=f"{fault}={value}"):
        getattr(proxy, fault)(value)
