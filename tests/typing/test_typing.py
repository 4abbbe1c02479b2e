"""Both type checkers refuse the marked lines of every file here, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*_api.py"))


def marked(file):
    lines = file.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# error")}


def run(*command):
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=HERE.parent.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def mypy(file):
    done = run("mypy", "--strict", "--output=json", file)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stdout + done.stderr
    errors = [error for error in found if error["severity"] == "error"]
    assert all(Path(error["file"]).name == file.name for error in errors), done.stdout
    return {error["line"]: error["message"] for error in errors}


def pyright(file):
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, file)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {error["range"]["start"]["line"] + 1: error["message"] for error in found if error["severity"] == "error"}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_marked_lines_are_refused_and_no_others(checker, file):
    errors = checker(file)
    expected = marked(file)
    assert {line: message for line, message in errors.items() if line not in expected} == {}
    assert expected - errors.keys() == set()
