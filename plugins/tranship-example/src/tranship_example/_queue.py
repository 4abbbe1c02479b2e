"""The queue: a directory for each, in it one for each level, in it a file for each message. Taking is renaming.

The name of a message's file says all there is to know of it: ``<order>~<count>~<until>~<claim>``, how often it has been
taken, until when it is held, and by which claim. Of several who rename it, one succeeds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from uuid import uuid4

from tranship.driver import End, Ending, Outgoing, QueueTraits, Slot, Stored, Taken, TakenBatch, unpack
from tranship.envelope import Priority
from tranship.ports import CountKind, QueueInfo, Settled
from tranship_example._files import file_name, names_in, write

__all__ = ["FileQueue"]

NUMBERS = count()


class Claim:
    """One message's file, as it was named when it was looked at, or when it was renamed here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.order, times, until, _ = path.name.split("~")
        self.count, self.until = int(times), float(until)

    @property
    def held(self) -> bool:
        """Whether somebody has it, and his lease is not over."""
        return self.until > time.time()

    def rename(self, count: int, until: float) -> bool:
        """Take it, keep it or give it back; False: it is somebody else's, or gone."""
        new = self.path.with_name(f"{self.order}~{count}~{until}~{uuid4().hex[:8]}")
        try:
            self.path.rename(new)
        except FileNotFoundError:
            return False
        self.path, self.count, self.until = new, count, until
        return True

    def remove(self) -> bool:
        """Delete it; False: it is somebody else's, or gone."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def read(self) -> bytes | None:
        """Return what is in it; None: it has been renamed or deleted meanwhile."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None


class FileQueue:
    """All queues in one directory.

    Args:
        root: the directory; made if need be.
        lease: seconds that a claim lasts.
    """

    def __init__(self, root: Path, lease: float) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._lease = lease
        self.traits = QueueTraits(lease=lease, counts=CountKind.EXACT, order="keeps-place", levels=True)

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[None]:
        """Write a file for each message."""
        for message in batch:
            place = self._place(message.slot)
            place.mkdir(parents=True, exist_ok=True)
            order = f"{time.time_ns():020d}-{next(NUMBERS):012d}-{os.getpid()}"
            write(place / f"{order}~0~0~-", message.data)
        return [None] * len(batch)

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:  # noqa: ARG002 - looks once
        """Rename what nobody holds."""
        items: list[Taken] = []
        for slot in slots:
            for claim in self._claims(self._place(slot)):
                if len(items) == limit:
                    return TakenBatch(items)
                if not claim.held:
                    items += self._taken(claim, slot)
        return TakenBatch(items)

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled]:
        """Delete files, or rename them back."""
        return [Settled.CONFIRMED if self._end(one.token, one.end) else Settled.LOST for one in endings]

    async def renew(self, tokens: Sequence[Claim]) -> Sequence[bool]:
        """Rename files to a later time."""
        return [claim.held and claim.rename(claim.count, time.time() + self._lease) for claim in tokens]

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> Sequence[Stored]:
        """Look into every file: a directory is no index."""
        found = [stored for place in self._places() for stored in self._stored(place)]
        return [one for one in found if one.facts.id in ids or one.facts.cancel_key in cancel_keys]

    async def scan(self, queue: str, state: str, limit: int) -> Sequence[Stored]:
        """Look into the files of one queue, the most urgent level first."""
        found = (stored for level in Priority for stored in self._stored(self._place((queue, level))))
        return list(islice((one for one in found if one.state == state), limit))

    async def pick(self, refs: Sequence[Claim]) -> Sequence[Taken]:
        """Rename exactly these."""
        return [taken for claim in refs if not claim.held for taken in self._taken(claim, None)]

    async def queues(self) -> Sequence[QueueInfo]:
        """Count files."""
        infos = (self._info(directory) for directory in map(self._root.joinpath, names_in(self._root)))
        return [info for info in infos if info is not None]

    def _place(self, slot: Slot) -> Path:
        queue, level = slot
        return self._root / file_name(queue) / str(int(level))

    def _places(self) -> Iterator[Path]:
        for name in names_in(self._root):
            for level in names_in(self._root / name):
                yield self._root / name / level

    def _claims(self, place: Path) -> list[Claim]:
        return [Claim(place / name) for name in names_in(place)]

    def _taken(self, claim: Claim, slot: Slot | None) -> Iterator[Taken]:
        if claim.rename(claim.count + 1, time.time() + self._lease) and (data := claim.read()) is not None:
            queue, level = slot or unpack(data)[0].slot
            yield Taken(claim, queue, level, data, claim.count)

    def _end(self, claim: Claim, end: End) -> bool:
        if end is End.REMOVE:
            return claim.held and claim.remove()
        return claim.held and claim.rename(claim.count - (end is End.RELEASE), 0.0)

    def _stored(self, place: Path) -> Iterator[Stored]:
        for claim in self._claims(place):
            # What nobody can read is taken, and given up, like any other.
            with suppress(ValueError):
                if (data := claim.read()) is not None:
                    yield Stored(claim, unpack(data)[0], "held" if claim.held else "ready")

    def _info(self, directory: Path) -> QueueInfo | None:
        claims = {Priority(int(level)): self._claims(directory / level) for level in names_in(directory)}
        every = [claim for some in claims.values() for claim in some]
        ready = [claim for claim in every if not claim.held]
        datas = (data for claim in every if (data := claim.read()) is not None)
        if (data := next(datas, None)) is None:
            return None
        oldest = min((int(claim.order[:20]) for claim in ready), default=time.time_ns())
        return QueueInfo(
            name=unpack(data)[0].queue,
            ready={level: sum(not claim.held for claim in some) for level, some in claims.items()},
            in_flight=len(every) - len(ready),
            oldest_age=max(time.time_ns() - oldest, 0) / 1e9,
        )
