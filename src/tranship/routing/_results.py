"""Results of several brokers: each is kept where its task was, and looked for where it may be."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from tranship.envelope import TaskState
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Backend, Capability, ResultSink, StoredResult
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member
from tranship.routing._picking import Picking
from tranship.routing._placements import Placements

if TYPE_CHECKING:
    from tranship.ports import IdKeeper, KnownId

__all__ = ["RoutedResults"]

log = logging.getLogger("tranship.routing")

Found = Mapping[Member, Sequence[StoredResult] | TranshipError]

_RANKS: Final = (TaskState.UNKNOWN, TaskState.PENDING, TaskState.SCHEDULED, TaskState.RETRY, TaskState.STARTED)
"""Of states that are not terminal, the later one says more."""


class RoutedResults:
    """See :class:`tranship.ports.ResultStore`.

    An id whose broker does not answer is PENDING, not an error, as long as any broker answers: one broker's outage
    must not keep others' results from who waits for them.
    """

    def __init__(self, fleet: Fleet, placements: Placements) -> None:
        self._fleet = fleet
        self._placements = placements
        self._picking = Picking(fleet.counts)
        self._sink: ResultSink | None = None
        self._expected: dict[str, set[Member]] = {}

    @property
    def waiting(self) -> int:
        """How many ids are expected."""
        return len(self._expected)

    @property
    def _keeps(self) -> bool:
        """Whether results are kept; otherwise what is pushed is for who submitted, whether expected or not."""
        return self._fleet.capabilities.has(Capability.RESULTS)

    def attach(self, sink: ResultSink) -> None:
        """Say where pushed results go."""
        self._fleet.check()
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """From now on push the terminal results of ``ids``, from wherever they are."""
        self._fleet.check()
        wanted: dict[Member, list[str]] = {}
        for task_id in ids:
            members = self._expected.setdefault(task_id, set())
            for one in self._placements.of(task_id) or self._fleet.members:
                if one not in members:
                    members.add(one)
                    wanted.setdefault(one, []).append(task_id)
        for one, part in wanted.items():
            _expect(one, part)

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids`` any more."""
        self._fleet.check()
        unwanted: dict[Member, list[str]] = {}
        for task_id in ids:
            for one in self._expected.pop(task_id, ()):
                unwanted.setdefault(one, []).append(task_id)
        for one, part in unwanted.items():
            _unexpect(one, part)

    def placed(self, ids: Iterable[str], member: Member) -> None:
        """``ids`` are being submitted to ``member``: those that are expected are expected there, too."""
        fresh = [one for one in ids if (members := self._expected.get(one)) is not None and member not in members]
        for task_id in fresh:
            self._expected[task_id].add(member)
        if fresh:
            _expect(member, fresh)

    def join(self, member: Member) -> None:
        """``member`` has a new backend: it pushes to us whatever is expected of it."""
        store = member.backend.results()
        store.attach(lambda results: self._pushed(member, results))
        if wanted := [task_id for task_id, members in self._expected.items() if member in members]:
            store.expect(wanted)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store each where its task is; where that cannot be found out, where everybody would."""
        self._fleet.check()
        await self._find([one.id for one in results if not self._placements.of(one.id)])
        parts: dict[Member, list[int]] = {}
        for index, result in enumerate(results):
            parts.setdefault(self._keeper(result.id), []).append(index)

        async def put(member: Member, backend: Backend) -> Sequence[bool]:
            return await backend.results().put([results[index] for index in parts[member]])

        won = [False] * len(results)
        for member, answer in (await self._fleet.each(parts, put)).items():
            if isinstance(answer, TranshipError):
                raise answer
            for index, one in zip(parts[member], answer, strict=True):
                won[index] = one
        return won

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read each from wherever it may be.

        Raises:
            UnsupportedError: the brokers only push results.
        """
        self._fleet.check()
        self._fleet.capabilities.check_keeps_results(self._fleet.url)
        asked: dict[Member, list[str]] = {}
        for task_id in ids:
            for one in self._placements.of(task_id) or self._fleet.members:
                asked.setdefault(one, []).append(task_id)

        async def get(member: Member, backend: Backend) -> Sequence[StoredResult]:
            return await backend.results().get_many(asked[member])

        found = await self._fleet.each([one for one in asked if one.usable], get)
        self._fleet.check()
        return self._merged(ids, asked, found)

    def forgotten(self, ids: Iterable[str]) -> None:
        """The results of ``ids`` make room for new ones."""
        self._picking.forget(ids)

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results, wherever they may be."""
        self._fleet.check()
        ended: list[str] = []
        if self._fleet.capabilities.told_of_ids:
            # All were told of them, and the result is at one.
            ended = [one.id for one in await self.get_many(ids) if one.state.terminal]
        asked: dict[Member, list[str]] = {}
        for task_id in ids:
            for one in self._placements.of(task_id) or self._fleet.members:
                asked.setdefault(one, []).append(task_id)

        async def forget(member: Member, backend: Backend) -> None:
            await backend.results().forget_many(asked[member])

        found = await self._fleet.each(asked, forget)
        self._picking.forget(ids)
        errors = [answer for answer in found.values() if isinstance(answer, TranshipError)]
        if errors:
            raise errors[0]
        if ended:
            await self.drop_ids(ended)

    async def keep_ids(self, tasks: Sequence[KnownId]) -> Sequence[bool]:
        """Let every broker that has to be told know ids, whichever gets the tasks; True: none knew it before."""
        answers = await self._fleet.all_usable("keeping ids", lambda backend: _keep_ids(backend, tasks))
        return [all(fresh[place] for fresh in answers.values()) for place in range(len(tasks))]

    async def drop_ids(self, ids: Sequence[str]) -> None:
        """Let no broker know these ids any more."""
        await self._fleet.all_usable("dropping ids", lambda backend: _drop_ids(backend, ids))

    async def _find(self, ids: Sequence[str]) -> None:
        """Learn where tasks are that came neither from here nor through here, from brokers that know."""
        capabilities = self._fleet.capabilities
        # What they are told of, they are all told.
        knows = capabilities.has(Capability.KNOWS_IDS) and not capabilities.told_of_ids
        if not ids or len(self._fleet.members) == 1 or not knows:
            return
        found = await self._fleet.each(self._fleet.usable(), lambda _member, backend: backend.results().get_many(ids))
        for member, answers in found.items():
            if not isinstance(answers, TranshipError):
                self._placements.add((one.id for one in answers if one.state is not TaskState.UNKNOWN), member)

    def _keeper(self, task_id: str) -> Member:
        known = self._placements.of(task_id)
        if known:
            return next((one for one in known if one.usable), known[0])
        there = self._fleet.usable()
        if not there:
            raise self._fleet.nobody("storing results")
        return self._fleet.home(task_id, there)

    # Reading.

    def _merged(
        self, ids: Sequence[str], asked: Mapping[Member, Sequence[str]], found: Found
    ) -> Sequence[StoredResult]:
        stored: dict[str, list[tuple[Member, StoredResult]]] = {task_id: [] for task_id in ids}
        errors = [answer for answer in found.values() if isinstance(answer, TranshipError)]
        for member, answers in found.items():
            if not isinstance(answers, TranshipError):
                for one in answers:
                    stored[one.id].append((member, one))
        if ids and len(errors) == len(found):
            raise errors[0] if errors else self._fleet.nobody("reading results")
        if permanent := [one for one in errors if not isinstance(one, BrokerUnreachable)]:
            log.warning("results of one broker cannot be read: %s", permanent[0])
        silent = {
            task_id
            for member, part in asked.items()
            if member not in found or isinstance(found[member], TranshipError)
            for task_id in part
        }
        return [self._one(task_id, stored[task_id], complete=task_id not in silent) for task_id in ids]

    def _one(self, task_id: str, known: Sequence[tuple[Member, StoredResult]], *, complete: bool) -> StoredResult:
        ended = [(member, one) for member, one in known if one.state.terminal]
        if ended:
            return self._ended(task_id, ended)
        if complete:
            self._picking.forget([task_id])
        best = max((one for _, one in known), key=lambda one: _rank(one.state), default=None)
        if best is None or (best.state is TaskState.UNKNOWN and not complete):
            # Those who may know it do not answer.
            return StoredResult(id=task_id, state=TaskState.PENDING)
        return best

    def _ended(self, task_id: str, ended: Sequence[tuple[Member, StoredResult]]) -> StoredResult:
        several = len(ended) > 1 or len(self._placements.of(task_id)) > 1
        return self._picking.pick(task_id, ended) if several else ended[0][1]

    def _pushed(self, member: Member, results: Sequence[StoredResult]) -> None:
        wanted = [
            self._ended(one.id, [(member, one)]) if one.state.terminal else one
            for one in results
            if one.id in self._expected or not self._keeps
        ]
        if wanted and self._sink is not None:
            self._sink(wanted)


async def _keep_ids(backend: Backend, tasks: Sequence[KnownId]) -> Sequence[bool]:
    keeper = _id_keeper(backend)
    return [True] * len(tasks) if keeper is None else await keeper.keep_ids(tasks)


async def _drop_ids(backend: Backend, ids: Sequence[str]) -> None:
    if (keeper := _id_keeper(backend)) is not None:
        await keeper.drop_ids(ids)


def _id_keeper(backend: Backend) -> IdKeeper | None:
    """Return what is told of ids there; None: it knows them by itself."""
    return cast("IdKeeper", backend.results()) if backend.capabilities.told_of_ids else None


def _rank(state: TaskState) -> int:
    return _RANKS.index(state) if state in _RANKS else 1


def _expect(member: Member, ids: Sequence[str]) -> None:
    """Expect at a broker that is open; one that opens later is told then."""
    if member.opened:
        # Closed in this very moment, it is opened again and told then.
        with contextlib.suppress(TranshipError):
            member.backend.results().expect(ids)


def _unexpect(member: Member, ids: Sequence[str]) -> None:
    if member.opened:
        with contextlib.suppress(TranshipError):
            member.backend.results().unexpect(ids)
