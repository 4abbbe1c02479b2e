"""The benchmarks run with what their constraints say, and with nothing else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def machine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_machine", ROOT / "bench" / "machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_distribution_of_the_group_is_a_peer_with_a_locked_version(machine: ModuleType) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    names = {re.match(r"[\w-]+", one)[0].lower() for one in groups["bench"]}  # type: ignore[index]  # each has a name
    assert names <= machine.PEERS | {"redis"}
    assert not [problem for problem in machine.unlocked() if "has no version" in problem]


def test_what_is_not_as_it_is_locked_is_told(machine: ModuleType, tmp_path: Path) -> None:
    lock, here = tmp_path / "constraints.txt", importlib.metadata.version("pytest")
    peers = "".join(f"{name}==0.0.1\n" for name in sorted(machine.PEERS - {"dramatiq"}))
    lock.write_text(f"# comment\npytest=={here}\npluggy==0.1\nno-such-distribution==1\n{peers}")
    problems = machine.unlocked(lock)
    assert "dramatiq is a peer and has no version in constraints.txt" in problems
    assert f"pluggy is {importlib.metadata.version('pluggy')}; expected 0.1" in problems
    assert not [one for one in problems if one.startswith(("pytest", "no-such"))]
    assert [one for one in problems if re.match(r"litequeue is (not installed|[\d.]+); expected 0.0.1", one)]
