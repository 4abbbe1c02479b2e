"""A real server in few lines, for the tests of services and proxy.

``echo_server.py PORT [--stubborn] [--refuse-to-start]``: answers each line with itself; ``count`` with the
number of connected clients, ``saved`` with the lines kept in the file ``lines`` of the working directory
over all its runs, ``helper`` with the process id of a helper process of its own. ``--stubborn`` ignores SIGTERM.
"""

import os
import signal
import socketserver
import subprocess
import sys
from pathlib import Path
from typing import ClassVar


class Echo(socketserver.StreamRequestHandler):
    clients: ClassVar[set[int]] = set()
    helper: subprocess.Popen[bytes]

    def handle(self) -> None:
        self.clients.add(id(self))
        try:
            for line in self.rfile:
                self.wfile.write(self.answer(line))
        except ConnectionError:
            pass
        finally:
            self.clients.discard(id(self))

    def answer(self, line: bytes) -> bytes:
        match line.strip():
            case b"count":
                return b"%d\n" % len(self.clients)
            case b"helper":
                return b"%d\n" % self.helper.pid
            case b"saved":
                return Path("lines").read_bytes().replace(b"\n", b",") + b"\n"
        with Path("lines").open("ab") as lines:
            lines.write(line)
        return line


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    if "--refuse-to-start" in sys.argv:
        sys.exit("fatal: the configuration is wrong")
    if "--stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Echo.helper = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    with Server(("127.0.0.1", int(sys.argv[1])), Echo) as server:
        print("listening", flush=True)
        # In the main thread, which looks up twice a second: a signal may be delivered to any thread, but Python's
        # handlers run in this one, and a lock it waits for would not wake it.
        server.serve_forever()


main()
