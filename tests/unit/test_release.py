"""What makes a release: the index that pip reads, the judgement of licences, and what stands in a release's way."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"release_{name}", ROOT / "release" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(directory: Path, name: str, *requires: str) -> None:
    """A distribution that has nothing but its name, and what it asks for."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(directory / f"{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as file:
        asked = "".join(f"Provides-Extra: more\nRequires-Dist: {one}; extra == 'more'\n" for one in requires)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asked}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_pip_finds_an_extra_in_the_index(tmp_path: Path) -> None:
    """Of distributions with names that nobody else has: what is found can only have come from there."""
    built, simple, fetched = tmp_path / "built", tmp_path / "simple", tmp_path / "fetched"
    built.mkdir()
    wheel(built, "tranship-test-core", "tranship-test-more>=1")
    wheel(built, "tranship-test-more")
    assert script("index").index(built, simple) == ["tranship-test-core", "tranship-test-more"]
    pip = [sys.executable, "-m", "pip", "--isolated", "download", "--quiet", "--index-url", simple.as_uri()]
    subprocess.run([*pip, "--dest", str(fetched), "tranship-test-core[more]"], check=True, timeout=60)
    assert {path.name for path in fetched.iterdir()} == {path.name for path in built.iterdir()}


def test_extras_are_those_of_the_project() -> None:
    assert {"redis", "rabbitmq", "nats", "pydantic"} <= set(script("index").extras())


@pytest.mark.parametrize(
    ("licences", "trouble"),
    [
        ([{"license": {"id": "MIT"}}], ""),
        ([{"expression": "MPL-2.0 AND (Apache-2.0 OR MIT)"}], ""),
        ([{"license": {"name": "GNU Lesser General Public License v3 (LGPLv3)"}}], ""),
        ([{"expression": "GPL-2.0-only OR MIT"}], ""),
        ([{"license": {"id": "GPL-3.0-or-later"}}], "binds what is built with it"),
        ([{"license": {"name": "GNU Affero General Public License v3"}}], "binds what is built with it"),
        ([], "says no licence"),
    ],
)
def test_licences_that_bind_are_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], licences: list[object], trouble: str
) -> None:
    bill = tmp_path / "sbom.json"
    bill.write_text(json.dumps({"components": [{"name": "part", "version": "1", "licenses": licences}]}))
    assert script("licences").main(bill) == (1 if trouble else 0)
    assert (trouble or "part 1: ") in capsys.readouterr().out


def test_each_plugin_is_an_extra_and_asks_for_the_core() -> None:
    plugins = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
    assert len(plugins) >= 9
    assert list(script("ready").problems(ROOT / "CHANGELOG.md", ROOT / "pyproject.toml", plugins, draft=True)) == []


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    core, plugin = tmp_path / "pyproject.toml", tmp_path / "plugin"
    (tmp_path / "src" / "tranship").mkdir(parents=True)
    plugin.mkdir()
    shutil.copy(ROOT / "src" / "tranship" / "__init__.py", tmp_path / "src" / "tranship")
    core.write_text('[project]\nname = "tranship"\nversion = "9.9"\n[project.optional-dependencies]\n')
    (plugin / "pyproject.toml").write_text('[project]\nname = "tranship-new"\ndependencies = ["tranship-redis"]\n')
    (tmp_path / "CHANGELOG.md").write_text("## 9.9 (unreleased)\n")
    found = "\n".join(script("ready").problems(tmp_path / "CHANGELOG.md", core, [plugin], draft=False))
    for words in ("expected a date", "__version__ is not 9.9", "does not ask for tranship", "is no extra of tranship"):
        assert words in found
