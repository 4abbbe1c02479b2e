"""This worker, as its orchestrator knows it: registered, told of now and then, and gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from uuid import uuid4

from tranship.errors import BrokerRefused, TranshipError
from tranship.ports import Heartbeat
from tranship_avtomatika._access import DENIED, Access
from tranship_avtomatika._errors import Refused
from tranship_avtomatika._payloads import (
    heartbeat_payload,
    leaving_payload,
    progress_payload,
    registration_payload,
    worker_id,
)
from tranship_avtomatika._signing import signed
from tranship_avtomatika._tasks import Work

__all__ = ["Member"]

log = logging.getLogger("tranship.avtomatika")

NOT_FOUND: Final = 404
LOOK: Final = 15.0
"""Seconds after which it is looked whether the orchestrator still knows us: one that was restarted does not say so."""
_NOT_LET_IN: Final = (
    "{}: it does not let worker {!r} in ({}); write the worker's token into the URL, where a password stands: "
    "avtomatika+http://:token@host:8080"
)


class Member:
    """Of one connection; a client's has no name.

    Args:
        access: asks in the worker's name.
        kind: what the worker says that it is, unless its labels say it.
        websocket: whether cancels can be sent to it.
        holding: returns the tasks that it has.
        taking: whether it would take another one.
        cancelled: called with the ids of tasks, or of jobs, that are to be stopped.

    Attributes:
        name: by which the orchestrator knows the worker.
        joined: set once it has been told what the worker can do.
        queues: what the worker consumes.
        idle: whether the orchestrator was told that the worker can do more.
    """

    def __init__(
        self,
        access: Access,
        *,
        kind: str,
        websocket: bool,
        holding: Callable[[], Collection[Work]],
        taking: Callable[[], bool],
        cancelled: Callable[[Collection[str]], None],
    ) -> None:
        self.access = access
        self._kind, self._websocket = kind, websocket
        self._holding, self._taking, self._cancelled = holding, taking, cancelled
        self.name = ""
        self.joined = asyncio.Event()
        self.queues: tuple[str, ...] = ()
        self.idle = True
        self._beat: Heartbeat | None = None
        self._known_at = float("-inf")
        self._progress: dict[str, tuple[float, str]] = {}
        self._gone = False

    async def join(self, worker: str) -> None:
        """Make the worker known, as one that is not at work yet.

        Raises:
            BrokerRefused: the orchestrator does not let it in.
            BrokerUnreachable: it does not answer.
        """
        self.name = worker_id(worker)
        if self.name != worker:
            log.info("%s knows worker %r as %r", self.access.http.base, worker, self.name)
        try:
            await self._register(None)
        except Refused as error:
            if error.status in DENIED:
                text = _NOT_LET_IN.format(self.access.http.base, self.name, error.said or error.status)
                raise BrokerRefused(text) from error
            raise

    async def beat(self, beat: Heartbeat) -> None:
        """Say what the worker does; what it can do as well, where that is not known.

        Raises:
            BrokerUnreachable: the orchestrator does not answer, or says no.
        """
        if not self.name or self._gone or beat.stopping:
            # That it stops is said when everything has been given back.
            return
        if "tasks" in beat.left_out:
            log.warning("%d tasks of worker %s are told to nobody: too many", beat.left_out["tasks"], self.name)
        known = self._beat is not None and list(self._beat.tasks) == list(beat.tasks)
        self._beat, self.queues = beat, tuple(beat.queues)
        if not known or await self._is_forgotten():
            await self._register(beat)
        idle = None if self._taking() else False
        await self._tell(heartbeat_payload(self.name, beat, self._current(), websocket=self._websocket, idle=idle))
        self.joined.set()
        await self._tell_progress(beat)

    async def say_idle(self, idle: bool) -> None:
        """Say at once whether the worker can do more: before something happens that depends on it."""
        if self._beat is not None and self.idle is not idle and not self._gone:
            beat, current = self._beat, self._current()
            await self._tell(heartbeat_payload(self.name, beat, current, websocket=self._websocket, idle=idle))

    async def leave(self, *, asking: bool) -> None:
        """Say that the worker is gone; nothing is given to it from then on.

        Args:
            asking: whether it has asked for a task and gets no answer any more.
        """
        if self.joined.is_set() and not self._gone:
            self._gone = True
            await self._send("PATCH", leaving_payload(self.name, skilled=not asking))

    async def send(self, method: str, path: str, payload: Mapping[str, Any], kind: str) -> Any:
        """Say something, signed; otherwise as :meth:`Http.ask`."""
        body = signed(payload, worker=self.name, secret=self.access.secret)
        return await self.access.ask(method, path, worker=self.name, body=body, kind=kind)

    async def _register(self, beat: Heartbeat | None) -> None:
        payload = registration_payload(self.name, beat, kind=self._kind, websocket=self._websocket)
        said = await self.send("POST", "/_worker/workers/register", payload, "register")
        self._known_at = asyncio.get_running_loop().time()
        if isinstance(said, Mapping) and said.get("warning"):
            log.warning("%s says of this worker: %s", self.access.http.base, said["warning"])

    async def _is_forgotten(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._known_at < LOOK:
            return False
        # Without a word of ours it says whether it knows us; with one it says yes to everybody.
        try:
            found = await self.access.ask("PATCH", self._path, worker=self.name, kind="heartbeat")
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            found = None
        if isinstance(found, Mapping):
            self._known_at = now
            return False
        log.info("%s does not know worker %s any more; it is registered again", self.access.http.base, self.name)
        return True

    @property
    def _path(self) -> str:
        return f"/_worker/workers/{self.name}"

    def _current(self) -> list[str]:
        # Cancels are looked for by the names that are told here, and jobs are what is cancelled.
        return list(dict.fromkeys(one for work in self._holding() for one in (work.task_id, work.job_id)))

    async def _tell(self, payload: Mapping[str, Any]) -> None:
        try:
            said = await self._send("PATCH", payload)
        except Refused as error:
            if error.status == NOT_FOUND:
                self._known_at = float("-inf")
            raise
        self.idle = payload["status"] == "idle"
        if not isinstance(said, Mapping):
            return
        if said.get("require_full_sync"):
            self._known_at = float("-inf")
            await self._register(self._beat)
        if isinstance(ended := said.get("cancel_task_ids"), list):
            self._cancelled([one for one in ended if isinstance(one, str)])

    async def _send(self, method: str, payload: Mapping[str, Any]) -> Any:
        return await self.send(method, self._path, payload, "heartbeat")

    async def _tell_progress(self, beat: Heartbeat) -> None:
        jobs = {work.task_id: work.job_id for work in self._holding()}
        told = {one.id: (one.progress, one.note) for one in beat.running if one.progress is not None}
        before, self._progress = self._progress, dict(told)
        for one in beat.running:
            if one.id in jobs and told.get(one.id, before.get(one.id)) != before.get(one.id):
                payload = progress_payload(self.name, uuid4().hex, jobs[one.id], one)
                try:
                    await self.send("POST", "/_worker/events", payload, "event")
                except TranshipError as error:
                    log.debug("the progress of task %s was not told: %s", one.id, error)
