"""Chords counted as Celery does, in its own keys: the members of a header may run on either kind of worker."""

from __future__ import annotations

from typing import Any, Final, cast

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.ports import ChordCount, ChordPart, ChordStart
from tranship_redis._context import Context
from tranship_redis._pack import Part
from tranship_redis._scripts import Script

__all__ = ["RedisChords"]

HOLD: Final = 30
"""Seconds for which the body is ours to send, before a Celery worker may take it over."""
CLAIMED: Final = 2
REMEMBERED: Final = 3600
"""Seconds for which a chord that is finished is not begun by what comes late: longer than a delivery is ours."""
_SCRIPT: Final = Script("chord")


class RedisChords:
    """See :class:`tranship.ports.ChordStore`.

    Args:
        context: of the backend.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keep = max(1, int(context.options.result_ttl))
        self._type = context.options.result_type

    async def start(self, chord: ChordStart) -> None:
        """Note size and structure, unless they are there."""
        saved = b"" if chord.tree is None else codec.dumps({"result": chord.tree}, self._type)
        await self._run(chord.group_id, b"start", chord.size, self._keep, saved)

    async def count(self, group_id: str, part: ChordPart) -> ChordCount:
        """Count a part; who completes the chord has the claim for its body."""
        score = b"+inf" if part.index is None else b"%d" % part.index
        encoded = codec.dumps([1, part.task_id, part.status, part.value], self._type)
        told = (_bytes(part.task_id), encoded, score, self._keep, HOLD, _token(part))
        known, parts, saved = await self._run(group_id, b"count", *told)
        if parts is None:
            return ChordCount(known=known != 0, claimed=known == CLAIMED)
        read = [self._part(one, at) for at, one in enumerate(parts)]
        return ChordCount(parts=read, tree=None if saved is None else self._tree(saved))

    async def finish(self, group_id: str, part: ChordPart) -> None:
        """Delete what was counted, and remember that it is done."""
        await self._run(group_id, b"finish", _token(part), REMEMBERED)

    async def is_known(self, group_id: str) -> bool:
        """Whether there is a size, or the chord has been finished."""
        return cast("int", await self._run(group_id, b"known")) == 1

    async def _run(self, group_id: str, *arguments: Part) -> Any:
        self._context.check()
        return await self._context.run(_SCRIPT, self._context.keys.chord(group_id), list(arguments))

    def _part(self, encoded: bytes, at: int) -> ChordPart:
        found = codec.loads(encoded, self._type)
        if not isinstance(found, list) or len(found) != 4 or not isinstance(found[1], str):
            raise MalformedMessage(f"a part of a chord is {found!r:.100}; expected [1, id, state, result]")
        _, task_id, status, value = found
        return ChordPart(task_id=task_id, index=at, status=status, value=value)

    def _tree(self, saved: bytes) -> list[Any] | None:
        found = codec.loads(saved, self._type)
        tree = found.get("result") if isinstance(found, dict) else None
        return tree if isinstance(tree, list) else None


def _token(part: ChordPart) -> bytes:
    # The same when its task comes again: whoever died with the claim goes on with it.
    return b"tranship:%b:%d" % (_bytes(part.task_id), -1 if part.index is None else part.index)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
