"""`tranship init`: what it writes works as it is, and it writes over nothing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_kit import cli, fails, ran

PATIENCE = 60


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def environ() -> dict[str, str]:
    """Somebody's who has installed tranship, and configured nothing."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TRANSHIP_", "PYTEST_"))}


def test_the_application_runs_and_its_tests_pass(tmp_path: Path) -> None:
    result = cli("--json", "init", "my-shop")
    app = tmp_path / "my-shop"
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "directory": "my-shop",
        "files": sorted(str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()),
    }
    python = [sys.executable, "-m"]
    quietly = [*python, "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    tests = subprocess.Popen(quietly, cwd=app, env=environ(), stdout=subprocess.PIPE, text=True)
    worker = subprocess.Popen([*python, "tranship", "worker", "my_shop.tasks"], cwd=app, env=environ())
    try:
        command = [*python, "my_shop", "you"]
        assert subprocess.check_output(command, cwd=app, env=environ(), text=True, timeout=PATIENCE) == "Hello, you!\n"
        assert (app / "tasks.db").is_file()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
    finally:
        worker.kill()
        worker.wait()
    out, _ = tests.communicate(timeout=PATIENCE)
    assert tests.returncode == 0, out
    assert "3 passed" in out


def test_its_containers_run_what_is_there(tmp_path: Path) -> None:
    assert cli("init", "shop").exit_code == 0
    app = tmp_path / "shop"
    compose = yaml.safe_load((app / "compose.yaml").read_text())
    assert compose["services"].keys() == {"redis", "worker"}
    assert compose["services"]["worker"]["environment"]["TRANSHIP_BROKER_URL"] == "redis://redis:6379/0"
    (line,) = (line for line in (app / "Dockerfile").read_text().splitlines() if line.startswith("CMD "))
    program, *arguments = json.loads(line.removeprefix("CMD "))
    assert (program, arguments[:2]) == ("tranship", ["worker", "shop.tasks"])
    # What it is told is understood: it is refused for the broker alone, which cannot be reached.
    ends = ["--wait-for-broker", "0", "--health-port", "0"]
    code, _, said = ran([*arguments, *ends], app, PATIENCE, TRANSHIP_BROKER_URL="redis://127.0.0.1:1/0")
    assert code == 3, said


def test_a_directory_that_is_there_for_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / ".venv").mkdir(parents=True)
    (tmp_path / "here" / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = cli("init")
    assert result.exit_code == 0
    assert "next: tranship worker here.tasks" in result.stderr


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "tasks.py").write_text("mine")
    fails(cli("init", "full"), 2, "full is there already and is not empty; choose another: tranship init DIRECTORY")
    fails(cli("init", "full/tasks.py", "--name", "shop"), 2, "is there already and is no directory")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["tasks.py"]
    assert (tmp_path / "full" / "tasks.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["9lives"], "'9lives' cannot be the name of a package: expected small letters"),
        (["Shop"], "'Shop' cannot be the name of a package"),
        (["my--shop"], "--name gives one that is not the directory's"),
        (["class"], "'class' cannot be the name of a package"),
        (["new", "--name", "../shop"], "'../shop' cannot be the name of a package"),
        (["new", "--name", ""], "'' cannot be the name of a package"),
        (["json"], "'json' is the name of a module that others import; choose another, such as json_app"),
        (["tranship"], "'tranship' is the name of a module"),
        (["tests"], "'tests' is the name of a module"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, arguments: list[str], text: str) -> None:
    fails(cli("init", *arguments), 2, text)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_directory_would_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails(cli("init", "file/shop"), 2, "cannot be written: Not a directory")
