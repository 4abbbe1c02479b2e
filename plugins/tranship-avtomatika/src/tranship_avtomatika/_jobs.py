"""Jobs: submitted by their blueprint, looked at until they have ended, cancelled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from tranship.driver import Answer, Outgoing
from tranship.envelope import Envelope, ErrorInfo, TaskResult, TaskState
from tranship.errors import (
    BrokerRefused,
    EncodeError,
    SubmitError,
    SubmitUnknown,
    TranshipError,
    UnsupportedError,
)
from tranship.ports import StoredResult, Tombstone
from tranship.protocol import Message, decode, encode_result
from tranship_avtomatika._errors import AnswerLost, NotSent, Refused
from tranship_avtomatika._http import Http

__all__ = ["Jobs"]

log = logging.getLogger("tranship.avtomatika")

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
AT_ONCE: Final = 16
"""Requests that are under way at once."""
DENIED: Final = frozenset({401, 403})
NOT_FOUND: Final = 404
NO_BLUEPRINT: Final = frozenset({404, 405})
"""What is there is a job of that id, which cannot be submitted to."""
TOO_MANY: Final = 429
UNAVAILABLE: Final = frozenset({502, 503, 504})
REMEMBERED: Final = 20_000
"""Ids and cancel keys that are known to be of this process."""
ENDED: Final = frozenset({"finished", "failed", "error", "quarantined", "cancelled"})
_WORKERS_ONLY: Final = (
    "{}: this URL has no client_token, and can be a worker's only; to submit jobs write "
    "avtomatika+http://host:8080?client_token=..."
)
_NOT_OURS: Final = (
    "{} {!r} is of no job that this process has submitted; cancel the job at its orchestrator: "
    "POST .../jobs/<id>/cancel"
)

Hear = Callable[[Sequence[StoredResult]], None]


class Jobs:
    """Those of this process.

    Args:
        http: the orchestrator.
        path: where it has its jobs.
        token: the client's; None: nothing can be submitted.
        worker: whether it may be a worker who asks, and submits nothing.
    """

    def __init__(self, http: Http, path: str, token: str | None, *, worker: bool) -> None:
        self._http, self._path, self._token, self._worker = http, path.rstrip("/"), token, worker
        self._heard: Hear | None = None
        self._ids: dict[str, str] = {}
        """By task: the job that it has become, while it has not ended."""
        self._keys: dict[str, set[str]] = {}
        """By cancel key: tasks that have not ended."""
        self._known: dict[str, None] = {}
        """Ids and cancel keys of the latest jobs, those that have ended as well."""
        self._following: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    # Submitting.

    async def submit(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Submit a job for each, and say of each what became of it."""
        return await asyncio.gather(*(self._submitted(one) for one in batch))

    async def _submitted(self, outgoing: Outgoing) -> Answer:
        envelope = _envelope_of(outgoing)
        try:
            job_id = await self._post(envelope)
        except Refused as error:
            return _refused(error, envelope, self._path)
        except (NotSent, SubmitError, UnsupportedError) as error:
            return error
        except AnswerLost as error:
            unknown = SubmitUnknown(f"whether the job was accepted is not known: {error}", task_id=envelope.id)
            unknown.__cause__ = error
            return unknown
        self._follow(envelope, job_id)
        return None

    async def _post(self, envelope: Envelope) -> str:
        body = _body(envelope)
        if not {"", ".", ".."}.isdisjoint(envelope.task.split("/")):
            raise SubmitError(f"task {envelope.task!r} names no blueprint's endpoint; expected such as my_flow")
        path = f"{self._path}/{quote(envelope.task, safe='/')}"
        async with self._slots:
            found = await self._http.ask("POST", path, headers=self._headers, body=body, kind="jobs")
        job_id = found.get("job_id") if isinstance(found, Mapping) else None
        if not isinstance(job_id, str) or not job_id:
            raise AnswerLost(f"{self._http.base}: POST {path}: the answer has no job_id in it: {found!r:.100}")
        return job_id

    @property
    def _headers(self) -> dict[str, str]:
        self.check()
        assert self._token is not None
        return {"X-Client-Token": self._token}

    def check(self) -> None:
        """Return if jobs can be submitted.

        Raises:
            UnsupportedError: there is no token for it.
        """
        if self._token is None:
            raise UnsupportedError(_WORKERS_ONLY.format(self._http.base))

    # Following.

    def hear(self, heard: Hear) -> None:
        """From now on call ``heard`` with the results of jobs.

        Raises:
            UnsupportedError: whoever asks can be no worker, and has no token for submitting either.
        """
        if not self._worker:
            self.check()
        self._heard = heard

    def _follow(self, envelope: Envelope, job_id: str) -> None:
        self._ids[envelope.id] = job_id
        self._remember(f"id {envelope.id}")
        if envelope.cancel_key is not None:
            self._keys.setdefault(envelope.cancel_key, set()).add(envelope.id)
            self._remember(f"key {envelope.cancel_key}")
        following = asyncio.create_task(self._until_ended(envelope, job_id))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    def _remember(self, name: str) -> None:
        self._known.pop(name, None)
        self._known[name] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def _until_ended(self, envelope: Envelope, job_id: str) -> None:
        pause = FIRST_PAUSE
        while (ended := await self._looked_at(envelope.id, job_id)) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        self._ids.pop(envelope.id, None)
        if envelope.cancel_key is not None and (tasks := self._keys.get(envelope.cancel_key)) is not None:
            tasks.discard(envelope.id)
            if not tasks:
                del self._keys[envelope.cancel_key]
        if self._heard is not None and envelope.keeps_result:
            self._heard([StoredResult(id=ended.id, state=ended.state, document=encode_result(ended))])

    async def _looked_at(self, task_id: str, job_id: str) -> TaskResult[Any] | None:
        """Return how a job has ended; None: it has not, or does not say."""
        try:
            async with self._slots:
                path = f"{self._path}/{quote(job_id, safe='')}"
                found = await self._http.ask("GET", path, headers=self._headers, kind=f"job {job_id}")
        except Refused as error:
            if error.status != NOT_FOUND:
                log.info("job %s could not be looked at: %s", job_id, error)
                return None
            found = {"status": "error", "error_message": f"the orchestrator does not know job {job_id} any more"}
        except TranshipError as error:
            log.info("job %s could not be looked at: %s", job_id, error)
            return None
        return _ending(task_id, job_id, found) if isinstance(found, Mapping) and found.get("status") in ENDED else None

    # Cancelling.

    async def cancel(self, tombstones: Sequence[Tombstone]) -> None:
        """Cancel jobs that this process has submitted, and that have not ended.

        Raises:
            UnsupportedError: a task, or all of a key, was submitted by another process.
            BrokerUnreachable: it is not cancelled, perhaps.
        """
        self.check()
        for one in tombstones:
            if f"{one.kind} {one.value}" not in self._known:
                raise UnsupportedError(_NOT_OURS.format(one.kind, one.value))
            tasks = [one.value] if one.kind == "id" else sorted(self._keys.get(one.value, ()))
            for task_id in tasks:
                await self._cancel(task_id)

    async def _cancel(self, task_id: str) -> None:
        job_id = self._ids.get(task_id)
        if job_id is None:
            log.info("task %s has ended: there is no job to cancel", task_id)
            return
        try:
            await self._http.ask(
                "POST", f"{self._path}/{quote(job_id, safe='')}/cancel", headers=self._headers, kind="cancel"
            )
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            log.info("job %s has ended already", job_id)

    async def aclose(self) -> None:
        """Follow nothing any more."""
        self.abort()
        if self._following:
            await asyncio.wait(set(self._following))

    def abort(self) -> None:
        """The same, without waiting for it."""
        for one in self._following:
            one.cancel()


def _envelope_of(outgoing: Outgoing) -> Envelope:
    source = outgoing.source
    if isinstance(source, Message):
        return source.envelope
    return decode(source, queue=outgoing.queue, priority=outgoing.level)


def _body(envelope: Envelope) -> bytes:
    """Return what a job is made of.

    Raises:
        EncodeError: arguments that a job cannot be given.
    """
    if envelope.args and (envelope.kwargs or len(envelope.args) > 1 or not isinstance(envelope.args[0], Mapping)):
        raise EncodeError(
            f"task {envelope.task!r} has arguments that no job takes; give it one dict, or keyword arguments",
            task_id=envelope.id,
        )
    body: dict[str, Any] = {"initial_data": envelope.args[0] if envelope.args else dict(envelope.kwargs)}
    if metadata := {name: one for name, one in envelope.headers.items() if isinstance(one, str | int | float | bool)}:
        body["metadata"] = metadata
    if envelope.deadline is not None:
        body["result_timeout"] = max(round(envelope.deadline - time.time(), 3), 0.001)
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise EncodeError(f"task {envelope.task!r} cannot be written as JSON: {error}", task_id=envelope.id) from error


def _refused(error: Refused, envelope: Envelope, path: str) -> TranshipError:
    """Return what a refusal means for one job."""
    made: TranshipError
    if error.status in DENIED:
        made = BrokerRefused(f"{error}; give the URL the client_token of a client that may submit jobs")
    elif error.status in NO_BLUEPRINT:
        made = SubmitError(
            f"{error}; no blueprint has its endpoint there: name the task as the blueprint's api_endpoint goes on "
            f"behind {path}, or change the URL's option jobs"
        )
    elif error.status == TOO_MANY or error.status in UNAVAILABLE:
        return error
    elif error.status >= 500:
        made = SubmitUnknown(f"whether the job was accepted is not known: {error}")
    else:
        made = SubmitError(str(error))
    made.task_id, made.__cause__ = envelope.id, error
    return made


def _ending(task_id: str, job_id: str, found: Mapping[str, Any]) -> TaskResult[Any]:
    status, now = found["status"], time.time()
    if status == "finished":
        return TaskResult(id=task_id, state=TaskState.SUCCESS, value=found.get("result"), finished_at=now)
    if status == "cancelled":
        return TaskResult(id=task_id, state=TaskState.CANCELLED, finished_at=now)
    told = found.get("error_message")
    why = f": {told}" if told else ""
    error = ErrorInfo(
        type="avtomatika.JobFailed",
        message=f"job {job_id} is {status}{why}",
        code=f"JOB_{status.upper()}",
        details={"job_id": job_id},
    )
    return TaskResult(id=task_id, state=TaskState.FAILURE, error=error, finished_at=now)
