"""SQS, as far as a server with a single answer can play it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tranship.registry import Registry

pytest.importorskip("pycurl", reason="pip install 'kombu[sqs]'")

LATE = 2.0
"""Seconds that each answer takes: more than connecting may, less than a request may."""


class Late(BaseHTTPRequestHandler):
    """There are no queues, and that is said late."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(LATE)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def late_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_opening_waits_for_an_answer_as_long_as_a_request_may(late_server):
    async def opened() -> None:
        backend = Registry().create(
            f"kombu+sqs://KEY:SECRET@{late_server}?transport.region=us-east-1&connect_timeout=0.5&command_timeout=30"
        )
        await backend.open()
        await backend.aclose()

    asyncio.run(opened())
