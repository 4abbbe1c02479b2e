"""A whole conformance run without pytest: every suite on one broker, and what it shows.

::

    found = run_conformance(Harness("mine://localhost"))
    print(found.standing.badge)
    found.report.write(Path("report.json"))
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tranship.errors import ConfigurationError
from tranship.hookspecs import PROJECT
from tranship.ports import Capabilities
from tranship.testing.case import Case, CaseReport, run_case
from tranship.testing.context import CaseContext
from tranship.testing.harness import Harness
from tranship.testing.report import ConformanceReport
from tranship.testing.tiers import TIERS, Standing, judge, required_cases

__all__ = ["Conformance", "as_if_installed", "run_conformance"]

Tell = Callable[[CaseReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """What a run has found."""

    backend: str
    """Its name, as it says itself."""
    capabilities: Capabilities
    """What it declares."""
    reports: Sequence[CaseReport]
    """How each case ended."""

    @property
    def standing(self) -> Standing:
        """The tier that it has reached, and what is between it and the next."""
        return judge(self.backend, self.capabilities, self.reports)

    @property
    def report(self) -> ConformanceReport:
        """The run as a file keeps it."""
        return ConformanceReport.of(self.backend, self.capabilities, self.reports)


def run_conformance(
    harness: Harness, *, upto: int = TIERS[-1].number, only: Collection[str] = (), tell: Tell | None = None
) -> Conformance:
    """Run the cases of all tiers on one broker.

    Args:
        harness: where the broker is.
        upto: the last tier whose cases are run.
        only: ids of cases; empty: all of them.
        tell: called with each report as it is made.

    Raises:
        ConfigurationError: a case that does not exist.
        TranshipError: the broker cannot be opened.
    """
    cases = list(_chosen(upto, only))
    backend, capabilities = asyncio.run(_asked(harness))
    reports: list[CaseReport] = []
    for described in cases:
        reports.append(run_case(described, harness))
        if tell is not None:
            tell(reports[-1])
    return Conformance(backend=backend, capabilities=capabilities, reports=reports)


def _chosen(upto: int, only: Collection[str]) -> Iterator[Case]:
    every = [one for tier in TIERS if tier.number <= upto for one in required_cases(tier)]
    if unknown := set(only) - {one.id for one in every}:
        raise ConfigurationError(
            f"there is no case {', '.join(sorted(unknown))} up to tier {upto}; docs/reference/conformance.md lists them"
        )
    return (one for one in every if not only or one.id in only)


async def _asked(harness: Harness) -> tuple[str, Capabilities]:
    async with CaseContext(harness, "conformance") as context:
        backend = await context.open()
        return backend.name, await context.capabilities()


_METADATA: Final = "Metadata-Version: 2.1\nName: {name}\nVersion: 0\n"


@contextmanager
def as_if_installed(modules: Sequence[str]) -> Iterator[None]:
    """Inside, these modules are plugins, for this process and those that cases start, without being installed.

    Args:
        modules: modules with hook implementations; looked for in the working directory, too.

    Raises:
        ConfigurationError: one of them cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="tranship-plugins-") as directory:
        before = list(sys.path)
        sys.path[:0] = [directory, str(Path.cwd())]
        try:
            for number, module in enumerate(modules):
                _import(module)
                _announce(Path(directory), f"uninstalled-{number}", module)
            importlib.invalidate_caches()
            yield
        finally:
            sys.path[:] = before


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ConfigurationError(
            f"module {module!r} cannot be imported: {type(error).__name__}: {error}; name the module that has the "
            "hook implementations, as its entry point does"
        ) from error


def _announce(directory: Path, name: str, module: str) -> None:
    """Write what an installer would have written: a distribution with an entry point."""
    place = directory / f"{name.replace('-', '_')}-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(_METADATA.format(name=name), "utf-8")
    (place / "entry_points.txt").write_text(f"[{PROJECT}]\n{module.replace('.', '_')} = {module}\n", "utf-8")
