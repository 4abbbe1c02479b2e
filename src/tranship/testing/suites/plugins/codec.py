"""What a codec promises."""

from __future__ import annotations

from typing import Any, Final

import pytest

__all__ = ["CodecSuite"]

VALUES: Final[tuple[Any, ...]] = (
    [[1, 2], {"width": 640}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
    [["é", "", "a" * 10_000], {}, {}],
    [[None, True, False, -1, 2**31, 1.5], {"nested": {"a": [{"b": []}]}}, {}],
    [],
)


class CodecSuite:
    """Fixture: ``codec``, with ``dumps`` and ``loads``."""

    @pytest.mark.parametrize("value", VALUES, ids=["call", "texts", "kinds", "empty"])
    def test_what_is_written_is_read(self, codec: Any, value: Any) -> None:
        """Arguments, as tasks have them, come back as they were; as bytes, and the same ones each time."""
        data = codec.dumps(value)
        assert isinstance(data, bytes)
        assert codec.loads(data) == value
        assert codec.dumps(value) == data

    def test_what_cannot_be_written_is_refused(self, codec: Any) -> None:
        """An object of a class that it cannot know raises, rather than arriving as something else."""
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it raises becomes an EncodeError
            codec.dumps([object()])

    @pytest.mark.parametrize("data", [b"", b"\xff\x00garbage\xfe"], ids=["empty", "garbage"])
    def test_what_cannot_be_read_is_refused(self, codec: Any, data: bytes) -> None:
        """Bytes that nobody wrote raise, or are at least no call of a task."""
        try:
            found = codec.loads(data)
        except Exception:  # noqa: BLE001 - whatever it raises becomes a MalformedMessage
            return
        assert not (isinstance(found, list) and len(found) == 3), f"{data!r} was read as {found!r}"
