"""RabbitMQ: how to start a node that shares nothing with others, and how to ask it without any AMQP library."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tranship.testing.services._contract import Launch, Place, Recipe, Service, accepts, free_port
from tranship.testing.services._docker import DockerService

__all__ = ["RabbitMQRefused", "rabbitmq_recipe", "rabbitmqctl"]

_TIMEOUT: Final = 5.0
_COMMAND_TIMEOUT: Final = 60.0
_IMAGE: Final = "rabbitmq:3"
_PORT: Final = 5672
_NODE: Final = "tranship@localhost"
_TOOL: Final = "rabbitmqctl"
_NOT_RUNNING: Final = "requires the 'rabbit' app to be running"
_PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME: Final = b"\x01"
# Tests start many nodes on few cores; a scheduler that waits busily would take one for itself.
_ADVANCED: Final = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 2000}]}].\n"
"""A delay that ends while a node starts is passed on to a queue that is not there yet, and again only after this
time, in milliseconds. The server's own three minutes are too long for a test."""
_ERLANG: Final = "+S 1:1 +SDcpu 1:1 +SDio 2 +A 2 -kernel inet_dist_use_interface {127,0,0,1}"
# The port mapper stands in the server's process group, so that it dies with it: the one that Erlang would
# start by itself is a daemon and stays.
_SCRIPT: Final = """
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do kill -0 $! || exit 1; done
exec "$0"
"""


class RabbitMQRefused(Exception):
    """``rabbitmqctl`` failed; the text is its own."""


def rabbitmq_recipe(
    *lines: str, name: str = "rabbitmq", plugins: Sequence[str] = (), tls: ssl.SSLContext | None = None
) -> Recipe:
    """Return how to start a RabbitMQ node of its own: own Erlang port mapper, cookie and data, loopback alone.

    ::

        short = rabbitmq_recipe("consumer_timeout = 10000")
        watched = rabbitmq_recipe(plugins=["rabbitmq_management"])
        with ProcessService(short, "/usr/lib/rabbitmq/bin/rabbitmq-server") as server: ...

    Args:
        lines: more of ``rabbitmq.conf``; ``{port}`` and ``{directory}`` stand for where it lives.
        name: of the service, for messages and ``TRANSHIP_TEST_<NAME>_BIN``.
        plugins: to enable.
        tls: speak TLS on the port and nothing else: the context of the probe, while ``lines`` name the
            server's certificate (``ssl_options.*``).
    """
    recipe = Recipe(
        name=name,
        # Debian's command on PATH changes to another user; this is the script that it calls.
        binaries=("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"),
        url=lambda place: f"{'amqps' if tls else 'amqp'}://guest:guest@{place.host}:{place.port}/",
        launch=lambda binary, place: _launch(binary, place, lines, plugins, tls=bool(tls)),
        ready=partial(_serves, tls=tls),
        count_clients=_clients,
        packages=("rabbitmq-server",),
        start_timeout=90.0,
        stop_timeout=30.0,
    )
    # A container has no file of ours to read its configuration from.
    plain = not lines and not plugins and not tls
    return dataclasses.replace(recipe, container=partial(_container, recipe)) if plain else recipe


def rabbitmqctl(place: Place, *words: str) -> str:
    """Run RabbitMQ's own command against the node that lives at ``place`` and return what it says.

    ::

        rabbitmqctl(server.place, "add_vhost", "other")
        rabbitmqctl(server.place, "set_vm_memory_high_watermark", "0.000001")       # alarm: publishers are blocked

    Takes about a third of a second of one core. A node that is still starting is waited for.

    Raises:
        RabbitMQRefused: it failed, or took more than a minute.
    """
    try:
        return _run_tool(place, *words)
    except RabbitMQRefused as error:
        # A node greets its clients a moment before it counts as running.
        if _NOT_RUNNING not in str(error):
            raise
    _run_tool(place, "await_startup", "--timeout", f"{_COMMAND_TIMEOUT / 2:.0f}")
    return _run_tool(place, *words)


def _run_tool(place: Place, *words: str) -> str:
    tool = str(place.directory / _TOOL)
    try:
        done = subprocess.run([tool, *words], capture_output=True, text=True, check=True, timeout=_COMMAND_TIMEOUT)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip()
        raise RabbitMQRefused(f"rabbitmqctl {shlex.join(words)}: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise RabbitMQRefused(f"rabbitmqctl {shlex.join(words)}: no answer in {_COMMAND_TIMEOUT:g} s") from error
    return done.stdout


def _launch(binary: str, place: Place, lines: Sequence[str], plugins: Sequence[str], *, tls: bool) -> Launch:
    environ = _environ(place)
    _configure(place, lines, plugins, tls=tls)
    _write_tool(binary, place, environ)
    return Launch(command=["sh", "-c", _SCRIPT, binary], environ=environ)


def _environ(place: Place) -> Mapping[str, str]:
    directory = str(place.directory)
    return {
        "HOME": directory,  # the cookie
        "ERL_EPMD_ADDRESS": place.host,
        "ERL_EPMD_PORT": str(free_port(place.host)),
        "RABBITMQ_DIST_PORT": str(free_port(place.host)),
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_MNESIA_BASE": f"{directory}/data",
        "RABBITMQ_LOG_BASE": f"{directory}/log",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{directory}/advanced.config",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # the machine's own
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        # Makes the node the process that we started, and not a child of its script.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _configure(place: Place, lines: Sequence[str], plugins: Sequence[str], *, tls: bool) -> None:
    address = f"{place.host}:{place.port}"
    listeners = ["listeners.tcp = none", f"listeners.ssl.1 = {address}"] if tls else [f"listeners.tcp.1 = {address}"]
    own = [*listeners, "disk_free_limit.absolute = 1MB"]
    given = [line.replace("{port}", str(place.port)).replace("{directory}", str(place.directory)) for line in lines]
    (place.directory / "rabbitmq.conf").write_text("\n".join([*own, *given, ""]))
    (place.directory / "advanced.config").write_text(_ADVANCED)
    (place.directory / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")


def _write_tool(binary: str, place: Place, environ: Mapping[str, str]) -> None:
    """Write a command that reaches this node and no other: handy for people, too."""
    beside = Path(binary).with_name(_TOOL)
    known = ("HOME", "ERL_EPMD_ADDRESS", "ERL_EPMD_PORT", "RABBITMQ_NODENAME", "RABBITMQ_CONF_ENV_FILE")
    exports = [f"export {name}={shlex.quote(environ[name])}" for name in known]
    command = f'exec {shlex.quote(str(beside if beside.exists() else _TOOL))} --quiet "$@"'
    tool = place.directory / _TOOL
    tool.write_text("\n".join(["#!/bin/sh", *exports, command, ""]))
    tool.chmod(0o755)


def _serves(place: Place, *, tls: ssl.SSLContext | None) -> bool:
    """Whether it greets: a node opens its port last of all, and says connection.start to who names the protocol."""
    if not accepts(place):
        return False
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(socket.create_connection((place.host, place.port), timeout=_TIMEOUT))
        if tls:
            link = stack.enter_context(tls.wrap_socket(link, server_hostname=place.host))
        link.sendall(_PROTOCOL)
        return link.recv(7).startswith(_METHOD_FRAME)


def _clients(place: Place) -> int:
    """AMQP connections; asking is none."""
    return len(rabbitmqctl(place, "list_connections", "pid", "--no-table-headers").split())


def _container(recipe: Recipe) -> Service:
    # Its command stays inside, so its clients cannot be counted from here.
    return DockerService(dataclasses.replace(recipe, count_clients=None), _IMAGE, port=_PORT)
