"""What holds of every execution, however close together things happen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from stage_model import waits_of
from stage_scripts import Boom, Job, Located, Log, Phase


def leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [] if error is None else [error]


class Story:
    """One execution, as its log tells it."""

    def __init__(self, jobs: Sequence[Job], log: Log, task: asyncio.Task[None], *, cancelled: bool) -> None:
        self.jobs = jobs
        self.log = log
        self.task = task
        self.cancelled = cancelled
        """Whether the caller was cancelled before the execution had ended."""
        self.at = {(what, name, phase, number): index for index, (_, what, name, phase, number) in enumerate(log.lines)}
        self.waits = {job.name: waits_of(job, jobs) for job in jobs}

    def begun(self, name: str, phase: Phase) -> int | None:
        return self.at.get(("begin", name, phase.value, 0))

    def ended(self, name: str, phase: Phase) -> int | None:
        """Where in the log the last attempt ended; None: it did not begin."""
        found = [at for (what, *where, _), at in self.at.items() if what != "begin" and where == [name, phase.value]]
        return max(found, default=None)

    def succeeded(self, job: Job, phase: Phase) -> bool:
        if phase not in job.scripts:
            return phase is not Phase.PRE_EXECUTE or all(self.set_up(name) for name in self.waits[job.name])
        return any(("end", job.name, phase.value, number) in self.at for number in range(5))

    def set_up(self, name: str) -> bool:
        return self.succeeded(next(job for job in self.jobs if job.name == name), Phase.PRE_EXECUTE)

    def check(self) -> None:
        self.nothing_runs_twice()
        self.pre_waits_for_pre()
        self.execute_waits_for_all_pre()
        self.post_runs_exactly_once_for_what_was_begun()
        self.post_runs_last_and_in_reverse()
        self.everything_that_went_wrong_is_raised()

    def nothing_runs_twice(self) -> None:
        begun = Counter(line[1:] for line in self.log.lines if line[1] == "begin")
        assert set(begun.values()) <= {1}
        for job in self.jobs:
            for phase, script in job.scripts.items():
                attempts = [number for _, name, where, number in begun if (name, where) == (job.name, phase.value)]
                assert sorted(attempts) == list(range(len(attempts)))
                assert len(attempts) <= script.retries + 1

    def pre_waits_for_pre(self) -> None:
        for job in self.jobs:
            begun = self.begun(job.name, Phase.PRE_EXECUTE)
            if begun is None:
                continue
            for name in self.waits[job.name]:
                assert self.set_up(name)
                assert (self.ended(name, Phase.PRE_EXECUTE) or -1) < begun

    def execute_waits_for_all_pre(self) -> None:
        executed = [at for job in self.jobs if (at := self.begun(job.name, Phase.EXECUTE)) is not None]
        for job in self.jobs if executed else ():
            assert self.succeeded(job, Phase.PRE_EXECUTE)
            assert (self.ended(job.name, Phase.PRE_EXECUTE) or -1) < min(executed)

    def post_runs_exactly_once_for_what_was_begun(self) -> None:
        for job in self.jobs:
            if Phase.POST_EXECUTE not in job.scripts:
                continue
            ran = self.begun(job.name, Phase.POST_EXECUTE) is not None
            if Phase.PRE_EXECUTE in job.scripts:
                assert ran == (self.begun(job.name, Phase.PRE_EXECUTE) is not None)
            elif not all(self.set_up(name) for name in self.waits[job.name]):
                assert not ran
            elif not self.failed_or_cancelled():
                assert ran

    def failed_or_cancelled(self) -> bool:
        return self.cancelled or self.task.cancelled() or self.task.exception() is not None

    def post_runs_last_and_in_reverse(self) -> None:
        for job in self.jobs:
            begun = self.begun(job.name, Phase.POST_EXECUTE)
            if begun is None:
                continue
            for other in self.jobs:
                for phase in (Phase.PRE_EXECUTE, Phase.EXECUTE):
                    assert (self.ended(other.name, phase) or -1) < begun
                if job.name in self.waits[other.name]:
                    assert (self.ended(other.name, Phase.POST_EXECUTE) or -1) < begun

    def everything_that_went_wrong_is_raised(self) -> None:
        assert self.task.cancelled() == self.cancelled
        try:
            self.task.result()
        except asyncio.CancelledError as error:
            raised = leaves(error.__cause__)
        except ExceptionGroup as error:
            raised = leaves(error)
        else:
            raised = []
        ours = [id(one) for one in raised if not isinstance(one, TimeoutError)]
        assert len(ours) == len(set(ours))
        assert {id(one) for one in self.log.raised if self.is_final(one)} <= set(ours)
        assert set(ours) <= {id(one) for one in self.log.raised if not self.was_repeated(one)}

    def is_final(self, error: Located) -> bool:
        """Whether no other attempt can follow. (One may be about to, when the execution is stopped.)"""
        name, phase, number = error.where
        script = next(job for job in self.jobs if job.name == name).scripts[Phase(phase)]
        return isinstance(error, Boom) or number == script.retries

    def was_repeated(self, error: Located) -> bool:
        name, phase, number = error.where
        return ("begin", name, phase, number + 1) in self.at
