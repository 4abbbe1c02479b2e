"""Other workers of the same name: both are told, for commands and heartbeats of one would be taken for the other's."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

from tranship.ports import Command, ControlChannel, Signal

__all__ = ["HELLO", "Namesakes"]

log = logging.getLogger("tranship.worker")

HELLO: Final = "hello"
"""The command by which a worker asks for others of its name; whoever is one says it back."""
MEMORY: Final = 60.0
"""Seconds for which one that says nothing any more is remembered."""
MOST: Final = 10


class Namesakes:
    """Those of one worker. On the I/O loop.

    Args:
        control: how they hear each other.
        name: the worker's.
        instance: what tells it from them.
    """

    def __init__(self, control: ControlChannel, name: str, instance: str) -> None:
        self._control = control
        self._name = name
        self._instance = instance
        self._heard: dict[str, tuple[float, str]] = {}
        """By instance: when one was heard of, and where it is."""
        self._ask = True
        """Whether nobody has been asked since the worker began, or was cut off."""
        self._answer = False

    def ask_again(self) -> None:
        """Somebody may have come who could not be heard."""
        self._ask = True

    async def greet(self) -> None:
        """Ask for them where that is due, and go on telling those who are there.

        Raises:
            BrokerError: it is still due.
        """
        if self._ask or self._answer or self.known():
            asked = self._ask
            await self._control.send(self._hello(ask=asked))
            self._answer = False
            # It may have become due once more meanwhile; then one word too many is said.
            self._ask = self._ask and not asked

    def heard(self, signals: Sequence[Signal]) -> bool:
        """Take in what the control channel brings; whether somebody new is there, or waits for an answer."""
        hellos = [one for one in signals if isinstance(one, Command) and one.name == HELLO]
        return sum(self._take(one.arguments) for one in hellos) > 0

    def known(self) -> list[str]:
        """Where those are of whom something was heard in the last minute."""
        limit = time.monotonic() - MEMORY
        gone = [instance for instance, (at, _) in self._heard.items() if at < limit]
        for instance in gone:
            _, where = self._heard.pop(instance)
            log.info("nothing is heard any more of the other worker named %r, %s", self._name, where)
        return [where for _, where in self._heard.values()]

    def _hello(self, *, ask: bool) -> Command:
        arguments = {"instance": self._instance, "host": socket.gethostname(), "pid": os.getpid(), "ask": ask}
        return Command(name=HELLO, arguments=arguments, destination=[self._name])

    def _take(self, said: Any) -> bool:
        instance, host, pid = said.get("instance"), said.get("host"), said.get("pid")
        if not isinstance(instance, str) or not isinstance(host, str) or instance == self._instance:
            return False
        is_new = instance not in self._heard
        if is_new and len(self._heard) >= MOST:
            return False
        where = f"on {host[:200]}, process {pid if isinstance(pid, int) else '?'}"
        self._heard[instance] = time.monotonic(), where
        if is_new:
            log.warning(
                "another worker is named %r, too: %s. Give each a name of its own (name=, --name): both take a command "
                "for one of them, and `tranship workers` shows one of them",
                self._name,
                where,
            )
        asks = said.get("ask") is True
        self._answer = self._answer or asks
        return is_new or asks
