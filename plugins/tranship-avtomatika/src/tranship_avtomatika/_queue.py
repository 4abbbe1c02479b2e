"""The queue of the driver: what the orchestrator has for this worker, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tranship.driver import Answer, End, Ending, Outgoing, QueueTraits, Slot, Taken, TakenBatch
from tranship.envelope import Priority
from tranship.error_codes import CONTRACT_VIOLATION_ERROR, SECURITY_ERROR
from tranship.errors import EncodeError, MalformedMessage, TranshipError
from tranship.ports import Settled
from tranship_avtomatika._answers import GIVEN_BACK, failure, is_final, unreadable
from tranship_avtomatika._errors import Refused
from tranship_avtomatika._inbox import Inbox
from tranship_avtomatika._jobs import Jobs
from tranship_avtomatika._member import Member
from tranship_avtomatika._signing import is_signed
from tranship_avtomatika._tasks import Held, Work, named, queue_of, read_task

__all__ = ["AvtomatikaQueue"]

log = logging.getLogger("tranship.avtomatika")

RESULT: Final = "/_worker/tasks/result"
BAD_REQUEST: Final = 400
INTERNAL: Final = 500
CLOSING: Final = 0.3
"""Seconds for which a question for a task that is under way is waited for at the end."""


class AvtomatikaQueue:
    """All that is taken from one orchestrator, and submitted to it.

    Args:
        member: this worker.
        jobs: what clients submit.
        poll: seconds that the orchestrator may keep us waiting for a task.
        secret_key: what tasks have to be signed with; None: nothing.
    """

    traits = QueueTraits(waits=True)

    def __init__(self, member: Member, jobs: Jobs, *, poll: float, secret_key: str | None) -> None:
        self._member, self._jobs = member, jobs
        self._poll, self._secret_key = poll, secret_key
        self.held: dict[Held, None] = {}
        """Every task that is ours, in the order in which it came."""
        self.inbox = Inbox(self._ask, lambda kind: queue_of(kind, member.queues))

    # Sending.

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Submit a job for each."""
        return await self._jobs.submit(batch)

    async def may_be_read(self, queue: str) -> bool:  # noqa: ARG002 - of any
        """A job's tasks go to whichever worker the orchestrator has for them."""
        return True

    # Taking.

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Ask the orchestrator, unless something is there already."""
        found = await self.inbox.take({queue for queue, _ in slots}, limit, wait)
        return TakenBatch([self._taken(one) for one in found], confirmed=self._is_heard)

    @property
    def _is_heard(self) -> bool:
        """Whether the orchestrator has answered lately; it says nothing while it has nothing."""
        silence = asyncio.get_running_loop().time() - self._member.access.http.heard_at
        return silence < self._poll

    def _taken(self, held: Held) -> Taken:
        queue = queue_of(held.kind, self._member.queues)
        return Taken(held, queue, Priority.NORMAL, held.message, held.count, task_id=held.work.task_id)

    async def _ask(self) -> Held | None:
        """Ask for one task; None: there is none, or none that the worker can be given."""
        member = self._member
        await member.joined.wait()
        data = await member.access.ask(
            "GET",
            f"/_worker/workers/{member.name}/tasks/next",
            worker=member.name,
            kind="poll",
            timeout=self._poll,
            params={"timeout": f"{self._poll:g}"},
        )
        if data is None:
            return None
        work = named(data)
        if work is None:
            text = "%s handed over what is no task, and cannot be answered: %.200r; expected task_id, job_id and type"
            log.error(text, member.access.http.base, data)
            return None
        return await self._read(data, work)

    async def _read(self, data: Mapping[str, Any], work: Work) -> Held | None:
        if (refusal := self._refusal(data, work)) is not None:
            log.error("a task of %s is refused: %s", self._member.access.http.base, refusal["error"]["message"])
            await self._refuse(work, refusal)
            return None
        try:
            held = read_task(data, work, self._member.queues)
        except MalformedMessage as error:
            log.error("a task of %s cannot be read: %s", self._member.access.http.base, error)  # noqa: TRY400 - it says all there is
            await self._refuse(work, unreadable(error))
            return None
        self.held[held] = None
        return held

    def _refusal(self, data: Mapping[str, Any], work: Work) -> Mapping[str, Any] | None:
        if self._secret_key is not None and not is_signed(data, self._secret_key):
            text = f"task {work.task_id} of job {work.job_id} is not signed with the orchestrator's secret_key"
            return failure(SECURITY_ERROR, text)
        policy = data.get("policy")
        allowed = policy.get("allowed_skills") if isinstance(policy, Mapping) else None
        if isinstance(allowed, list) and data.get("type") not in allowed:
            return failure(
                SECURITY_ERROR, f"task {work.task_id} is a {data.get('type')!r}, its policy allows {allowed}"
            )
        return None

    async def _refuse(self, work: Work, answer: Mapping[str, Any]) -> None:
        try:
            await self._tell(work, answer)
        except TranshipError as error:
            text = "that task %s of job %s is not done here was not told, and it waits until its time is over: %s"
            log.warning(text, work.task_id, work.job_id, error)

    # Ending.

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:
        """Tell the orchestrator how tasks have ended; what is given back is kept for a later take."""
        return await asyncio.gather(*(self._ended(one) for one in endings))

    async def _ended(self, ending: Ending) -> Settled | TranshipError:
        held: Held = ending.token
        if not held.open or held not in self.held:
            return Settled.LOST
        if ending.end is not End.REMOVE:
            held.count -= ending.end is End.RELEASE
            return await self._keep(held, 0.0)
        if held.following is not None:
            held.message, due = held.following
            held.following = None
            return await self._keep(held, due)
        try:
            return await self._answered(held, held.answer or GIVEN_BACK)
        except TranshipError as error:
            return error

    async def _keep(self, held: Held, due: float) -> Settled:
        """Have the worker take it again: the orchestrator has no way to take a task back but as one that failed."""
        if self.inbox.closed:
            await self._give_back(held)
        else:
            self.inbox.put_back(held, due=due)
        return Settled.CONFIRMED

    async def _answered(self, held: Held, answer: Mapping[str, Any]) -> Settled:
        final = is_final(answer)
        if not final:
            # Whoever is busy gets nothing to do, not even what it has just failed to do.
            await self._say_idle()
        try:
            settled = await self._told(held.work, answer)
        except Refused as error:
            if error.status != INTERNAL or final:
                raise
            # There is nobody else for it: the attempt has been counted, and telling it again would be one more.
            log.warning("task %s has failed, and there is nobody to try it again now: %s", held.work.task_id, error)
            settled = Settled.CONFIRMED
        self.held.pop(held, None)
        held.open = False
        return settled

    async def _say_idle(self) -> None:
        try:
            await self._member.say_idle(idle=True)
        except TranshipError as error:
            log.debug("that the worker is idle was not told: %s", error)

    async def _told(self, work: Work, answer: Mapping[str, Any]) -> Settled:
        """Tell an end; one that the orchestrator cannot take becomes a failure that says so."""
        try:
            return await self._tell(work, answer)
        except EncodeError as error:
            return await self._tell(work, failure(CONTRACT_VIOLATION_ERROR, f"the result cannot be told: {error}"))
        except Refused as error:
            if error.status != BAD_REQUEST:
                raise
            return await self._tell(work, failure(CONTRACT_VIOLATION_ERROR, f"the result was refused: {error.said}"))

    async def _tell(self, work: Work, answer: Mapping[str, Any]) -> Settled:
        name = self._member.name
        who = {"job_id": work.job_id, "task_id": work.task_id, "worker_id": name, "origin_worker_id": name}
        said = await self._member.send("POST", RESULT, {**who, **answer}, "result")
        reason = said.get("reason") if isinstance(said, Mapping) and said.get("status") == "ignored" else None
        if reason is None or (reason == "job_cancelled" and answer["status"] == "cancelled"):
            return Settled.CONFIRMED
        log.warning("%s ignores the end of task %s: %s", self._member.access.http.base, work.task_id, reason)
        return Settled.LOST

    # The end of it all.

    async def close(self) -> None:
        """Give back what nobody has begun with, once the orchestrator knows that the worker is gone."""
        try:
            await self._member.leave(asking=self.inbox.asking)
        except TranshipError as error:
            log.info("that worker %s is gone was not told: %s", self._member.name, error)
        await self.inbox.close(CLOSING if self._member.joined.is_set() else 0.0)
        await asyncio.gather(*(self._give_back(one) for one in tuple(self.held)))

    async def _give_back(self, held: Held) -> None:
        self.held.pop(held, None)
        await self._refuse(held.work, GIVEN_BACK)
