"""The directories of tasks whose worker was killed, and of those that live."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tranship.errors import ConfigurationError
from tranship_objectstore import task_directory
from tranship_objectstore._directories import Directories

HOLDS = """
import sys
from tranship_objectstore._directories import Directories
directories = Directories(sys.argv[1])
(directories.make("task") / "half.bin").write_bytes(b"x")
print("made", flush=True)
sys.stdin.read()
"""


def holding(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, root], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    with holding(tmp_path) as killed, holding(tmp_path) as living:
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert len(list(tmp_path.glob("run-*/*/half.bin"))) == 2
        Directories(tmp_path).make("next")
        (kept,) = tmp_path.glob("run-*/*/half.bin")
        assert kept.parent.parent.name.startswith(f"run-{living.pid}-")
        living.communicate("", timeout=10)
    assert list(tmp_path.glob("run-*/*/half.bin")) == []


def test_a_process_that_ends_leaves_nothing(tmp_path):
    with holding(tmp_path) as process:
        process.communicate("", timeout=10)
    assert list(tmp_path.iterdir()) == []


def test_without_a_task_there_is_no_directory():
    with pytest.raises(ConfigurationError, match="call task_directory\\(\\) inside a task"):
        task_directory()
