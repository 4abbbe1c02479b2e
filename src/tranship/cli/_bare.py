"""Options that may stand without their number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

__all__ = ["bare_number"]


def bare_number(*names: str, means: float) -> type[TyperCommand]:
    """Return a command class in which the option ``names`` (the long one first) without a number means ``means``."""

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Parse, after giving a bare option its meaning."""
            return super().parse_args(ctx, list(_filled(args, names, means)))

    return Command


def _filled(args: Sequence[str], names: Collection[str], means: float) -> Iterator[str]:
    long = next(iter(names))
    end = args.index("--") if "--" in args else len(args)
    options = iter(range(end))
    for index in options:
        if args[index] not in names:
            yield args[index]
        elif index + 1 < end and _is_number(args[index + 1]):
            yield f"{long}={args[next(options)]}"
        else:
            yield f"{long}={means}"
    yield from args[end:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
