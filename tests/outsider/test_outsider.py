"""Plugins of people who have only what is published: written, built, installed and tested somewhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tranship.errors import ConfigurationError
from tranship.testing.scaffold import new_plugin

ROOT = Path(__file__).parents[2]
LIMIT = 240


@dataclass(frozen=True)
class Outsider:
    """A fresh environment that has tranship and what tests need, and a directory that is not this checkout's.

    What is installed here is seen from there, so that nothing has to be downloaded; what is built is installed there
    alone, and found first.
    """

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "venv" / "bin" / "python")

    def start(self, *command: str, cwd: Path) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TRANSHIP_"))}
        return subprocess.Popen(
            command, cwd=cwd, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def run(self, *command: str, cwd: Path) -> str:
        return finished(self.start(*command, cwd=cwd))

    def install(self, source: Path) -> None:
        """Build a wheel of ``source`` and install it."""
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        alone = ("--quiet", "--no-deps", "--no-index")
        self.run(*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=source)
        (wheel,) = (source / "dist").glob("*.whl")
        self.run(*pip, "--python", self.python, "install", *alone, str(wheel), cwd=source)

    def tests(self, where: Path, *arguments: str) -> subprocess.Popen[str]:
        # What happens to be installed beside pytest here, an author need not have.
        plain = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-n", "3")
        return self.start(self.python, "-m", "pytest", *plain, *arguments, cwd=where)


def finished(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, out + err
    return out


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    if os.name != "posix":
        pytest.skip("the environment is laid out as on POSIX systems")
    found = Outsider(tmp_path)
    found.run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    seen = sysconfig.get_path("purelib")
    (packages / "seen.pth").write_text(f"import site; site.addsitedir({seen!r})\n")
    return found


@pytest.mark.timeout(2 * LIMIT)
def test_a_plugin_that_is_new_is_green_at_the_first_tier(outsider: Outsider, tmp_path: Path) -> None:
    """Three methods, from the command to the badge: nothing of level core asks for what they do not have."""
    tranship = (outsider.python, "-m", "tranship")
    outsider.run(*tranship, "plugin", "new", "my-list", cwd=tmp_path)
    written = tmp_path / "tranship-my-list"
    outsider.install(written)

    # The suites of facade and worker are in what judges it, which runs beside.
    testing = outsider.tests(written, "-k", "not TestFacade and not TestWorker and not TestPorts")
    judging = outsider.start(*tranship, "conformance", "my-list://here", "--json", "--tier", "1", cwd=tmp_path)
    assert " passed" in finished(testing)
    told = json.loads(finished(judging))
    assert (told["backend"], told["tier"]) == ("my-list", 1)
    assert told["badge"].startswith("tranship conformance: tier 1 of 4, ")
    assert told["tiers"][0]["passed"] > 60
    assert {one["outcome"] for one in told["cases"]} == {"passed", "skipped"}
    assert json.loads((written / "tests" / "report.json").read_text("utf-8"))["cases"]["ack_removes"] == "passed"

    where = outsider.run(outsider.python, "-c", "import tranship_my_list as m; print(m.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")


@pytest.mark.timeout(LIMIT)
def test_the_example_is_built_installed_and_works_elsewhere(outsider: Outsider, tmp_path: Path) -> None:
    source = tmp_path / "tranship-example"
    shutil.copytree(ROOT / "plugins" / "tranship-example", source, ignore=shutil.ignore_patterns("*.egg-info", "dist"))
    outsider.install(source)
    where = outsider.run(outsider.python, "-c", "import tranship_example as m; print(m.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    chosen = "TestPrimitives or ack_removes or result_set_get or submit_dedup_window or dead_list_show_replay_purge"
    assert " passed" in finished(outsider.tests(source, "-k", chosen, "--rootdir", str(source)))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "plugins").glob("tranship-*")))
def test_what_tranships_own_plugins_are_called_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is a plugin of tranship's own"):
        new_plugin(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("My_List", "cannot be the name of a plugin: expected small letters"),
        ("../up", "cannot be the name of a plugin"),
        ("sqlite", "sqlite:// is served by tranship already"),
        ("tranship-", "cannot be the name of a plugin"),
        ("redis", "tranship-redis is a plugin of tranship's own"),
        ("amqp", "tranship-rabbitmq is a plugin of tranship's own"),
        ("there", "is there already and is not empty"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "tranship-there").mkdir()
    (tmp_path / "tranship-there" / "mine").touch()
    command = (sys.executable, "-m", "tranship", "plugin", "new", name, "--directory", str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "tranship-there"]
