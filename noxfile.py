"""Everything a change must pass, as sessions: ``nox`` runs lint, types and tests on the interpreter nox runs on."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = [*nox.project.python_versions(PYPROJECT), "3.14"]
"""Those that are promised, and one that the whole suite has not passed on yet. nox skips what is not found."""
PLUGINS = sorted(str(path.parent) for path in Path("plugins").glob("*/pyproject.toml"))
SOURCES = ["src", *(f"{plugin}/src" for plugin in PLUGINS)]
TYPED = [*SOURCES, "noxfile.py", "conftest.py"]
BARE = {"PYTHONPATH": os.pathsep.join(SOURCES)}
COMPILED = {"PYTHONDONTWRITEBYTECODE": None}
"""Tests start hundreds of processes: without compiled modules each of them would compile all of tranship once more."""


def install_groups(session: nox.Session, *groups: str, project: bool = True, constraints: str = "") -> None:
    """Install dependency groups and, where wanted, tranship itself and its plugins from their sources."""
    locked = ("-c", constraints) if constraints else ()
    requirements = nox.project.dependency_groups(PYPROJECT, *groups) if groups else ()
    sources = [part for path in (".", *PLUGINS) for part in ("-e", path)] if project else []
    session.install(*sources, *requirements, *locked)


@nox.session
def demo(session: nox.Session) -> None:
    """Run `tranship demo`: producer, worker and results with no server."""
    install_groups(session)
    session.run("tranship", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite on the current interpreter."""
    run_tests(session)


@nox.session(python=PYTHONS)
def all_pythons(session: nox.Session) -> None:
    """Run the test suite on every supported interpreter."""
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """Install what tests need and run pytest; arguments after `--` go to pytest.

    A few tests that fail run once more, alone, and are named: a suite of thousands on a busy machine is believed
    again, and nothing is forgotten. conftest.py says what is never repeated.
    """
    install_groups(session, "tests", "sandai", "servers")
    # Not in create_tmp(): it moves the tests' temporary files into this checkout, where an inner pytest finds our
    # settings.
    outcome = Path(session.virtualenv.location).resolve() / "outcome.json"
    outcome.unlink(missing_ok=True)
    # Three at a time on each core: most of the time a test waits for a broker.
    processes, codes = 3 * (os.cpu_count() or 2), (0, 1)
    compile_tests(session)
    # The session `types` has checked tests/typing.
    chosen = session.posargs or ["--ignore=tests/typing"]
    run_parallel(session, processes, "--outcome", str(outcome), *chosen, success_codes=codes)
    verdict = json.loads(outcome.read_text(encoding="utf-8"))
    if verdict["refused"]:
        session.error(verdict["refused"])
    if verdict["again"]:
        alone = ("--numprocesses=0", "-m", "", "--second-run", str(outcome))
        session.run("pytest", *alone, *verdict["again"], env=COMPILED)


def compile_tests(session: nox.Session) -> None:
    """Have pytest compile what it rewrites, where nobody has: in a clone each of its processes would do it all."""
    tag = session.run("python", "-c", "import sys; print(sys.implementation.cache_tag)", silent=True, log=False)
    if not any(Path("tests/unit/__pycache__").glob(f"*.{str(tag).strip()}-pytest-*.pyc")):
        session.run("pytest", "--collect-only", "-qq", env=COMPILED, silent=True)


def run_parallel(
    session: nox.Session, workers: int, *arguments: str, success_codes: Iterable[int] = (0,), **environ: str
) -> None:
    """Run pytest in so many processes; what is grouped stays in one of them."""
    parallel = ("--numprocesses", str(workers), "--dist=loadgroup")
    session.run("pytest", *parallel, *arguments, env={**COMPILED, **environ}, success_codes=success_codes)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill workers and submitters for some minutes; the first argument is how many times the usual (10)."""
    install_groups(session, "tests")
    scale, *rest = session.posargs or ["10"]
    session.run("pytest", "tests/chaos", "-m", "slow", *rest, env={**COMPILED, "TRANSHIP_TEST_CHAOS": scale})


@nox.session
def campaigns(session: nox.Session) -> None:
    """Run what takes too long for every day: kills of NATS and RabbitMQ, moves, quorum queues, load, a browser."""
    install_groups(session, "tests", "sandai", "docs", "browser")
    run_parallel(session, os.cpu_count() or 2, "-m", "campaign", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run tasks of every kind on Redis, NATS and SQLite while workers are killed; the first argument is how many.

    Each broker gets as many: 100,000 unless another number is given. `-k redis` chooses one.
    """
    install_groups(session, "tests")
    amount, *rest = session.posargs or ["100000"]
    seed = os.environ.get("TRANSHIP_TEST_SOAK_SEED") or str(secrets.randbelow(10**9))
    session.log(f"TRANSHIP_TEST_SOAK_SEED={seed} submits the same tasks in the same order")
    given = {"TRANSHIP_TEST_SOAK": amount, "TRANSHIP_TEST_SOAK_SEED": seed}
    session.run("pytest", "tests/soak", "-m", "campaign", *rest, env={**COMPILED, **given})


@nox.session(name="mixed-fleet")
def mixed_fleet(session: nox.Session) -> None:
    """Run canvases on Celery and tranship workers that are killed, beside Celery alone; the first argument is how many.

    Redis, and RabbitMQ with results in Redis, get as many: 5,000 unless another number is given. `-k rabbitmq` chooses.
    """
    install_groups(session, "tests")
    amount, *rest = session.posargs or ["5000"]
    seed = os.environ.get("TRANSHIP_TEST_MIXED_FLEET_SEED") or str(secrets.randbelow(10**9))
    session.log(f"TRANSHIP_TEST_MIXED_FLEET_SEED={seed} chooses the same victims")
    given = {"TRANSHIP_TEST_MIXED_FLEET": amount, "TRANSHIP_TEST_MIXED_FLEET_SEED": seed}
    session.run("pytest", "tests/interop/mixed", "-m", "campaign", *rest, env={**COMPILED, **given})


@nox.session
def versions(session: nox.Session) -> None:
    """Run each plugin's suite on every version of its server that can be had; arguments choose: redis-8.2, nats."""
    install_groups(session, "tests", "sandai")
    session.run("python", "tests/servers/versions.py", *session.posargs, env=COMPILED)


@nox.session
def plans(session: nox.Session) -> None:
    """Run random staged plans beside their model; the first argument is how many (100000)."""
    install_groups(session, "tests")
    amount, *rest = session.posargs or ["100000"]
    monte_carlo = "tests/stages/test_stages_monte_carlo.py"
    run_parallel(session, os.cpu_count() or 2, monte_carlo, *rest, TRANSHIP_TEST_PLANS=amount)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed every decoder, and Redis' scripts, hostile inputs; the first argument is how many in all (1000000)."""
    install_groups(session, "tests")
    amount, *rest = session.posargs or ["1000000"]
    seed = os.environ.get("TRANSHIP_TEST_FUZZ_SEED") or str(secrets.randbelow(10**9))
    session.log(f"TRANSHIP_TEST_FUZZ_SEED={seed} makes the same inputs again")
    given = {"TRANSHIP_TEST_FUZZ": amount, "TRANSHIP_TEST_FUZZ_SEED": seed}
    run_parallel(session, os.cpu_count() or 2, "tests/fuzz", *rest, success_codes=(0,), **given)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the rows of the design."""
    install_groups(session, "lint", project=False)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", env=BARE)


@nox.session
def types(session: nox.Session) -> None:
    """Check types: ours strictly, and what users see with two checkers."""
    install_groups(session, "types", "tests")
    session.run("mypy", *TYPED)
    # What users see, right and wrong, with both checkers: errors exactly where they are expected.
    session.run("pytest", "-q", "tests/typing")
    complete_types(session)


def complete_types(session: nox.Session) -> None:
    """Have pyright look at what users' type checkers see: each exported type is known, and said rather than inferred.

    All but what is made of Django's classes, which have no types.
    """
    plugins = [Path(path).name.replace("-", "_") for path in PLUGINS]
    for package in ("tranship", *(name for name in plugins if name != "tranship_django")):
        command = ("pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson")
        said = str(session.run(*command, env=VISIBLE, silent=True, success_codes=[0, 1]))
        found = json.loads(said[said.index("{") :])["typeCompleteness"]
        unsaid = [symbol for symbol in found["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
        session.log(f"types of {package}: {found['exportedSymbolCounts']}")
        for symbol in unsaid:
            session.log(f"{symbol['name']}: {'; '.join(why['message'] for why in symbol['diagnostics'])}")
        if unsaid or not found["symbols"]:
            session.error(f"expected all types of {package} to be said; `{' '.join(command)}` tells where they are not")


VISIBLE = {"PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in SOURCES)}
"""pyright reads no editable installation."""


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link is an error, and so is a search that does not find."""
    install_groups(session, "docs", "tests")
    session.run("mkdocs", "build", "--strict", *session.posargs)
    session.run("pytest", "-q", "-m", "", "tests/docs/test_navigation.py", "tests/docs/test_site.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure side by side with the peers; writes bench/results."""
    install_groups(session, "bench", "sandai", constraints="bench/constraints.txt")
    session.run("python", "bench", *session.posargs)


@nox.session(reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build the distributions into dist, install them from an index of their own and look at what a user gets."""
    install_groups(session, "package", project=False)
    simple = build_all(session, Path("dist").resolve())
    python = fresh(session, "redis", "tranship[redis]", simple)
    with session.chdir(session.create_tmp()):  # elsewhere: the sources cannot stand in for what a wheel lacks
        session.run(python, "-c", LOOK, external=True)
        session.run(python, "-c", REDIS, external=True)
        session.run(str(Path(python).with_name("tranship")), "--version", external=True)
        session.run(python, "-m", "tranship", "demo", external=True, silent=True)
    fresh(session, "everything", f"tranship[{','.join(EXTRAS)}]", simple)


@nox.session(reuse_venv=False)
def sbom(session: nox.Session) -> None:
    """Write dist/sbom.json: what a release with all its extras consists of; a licence that binds is an error."""
    install_groups(session, "package", project=False)
    dist = Path("dist").resolve()
    # What was built and looked at is what is described; what was not built is built now.
    simple = dist / "simple" if (dist / "simple").is_dir() else build_all(session, dist)
    python = fresh(session, "materials", f"tranship[{','.join(EXTRAS)}]", simple, pip=False)
    bill = str(dist / "sbom.json")
    described = ("--pyproject", "pyproject.toml", "--output-reproducible", "--output-format", "JSON")
    session.run("cyclonedx-py", "environment", *described, "--output-file", bill, python)
    session.run("python", "release/licences.py", bill)


@nox.session
def release(session: nox.Session) -> None:
    """Do all that a release takes, up to the upload, which is typed by hand: what to type is said at the end.

    `--draft` accepts a checkout that is not ready; with `--untested` beside it the test suite is left out.
    """
    untested = "--untested" in session.posargs
    arguments = [one for one in session.posargs if one != "--untested"]
    if untested and "--draft" not in arguments:
        session.error("expected --draft beside --untested: what is released has been tested")
    session.run("python", "release/ready.py", "CHANGELOG.md", "pyproject.toml", *PLUGINS, *arguments, external=True)
    for name in ("lint", "types", "tests", "docs", "package", "sbom", "checked"):
        if not (untested and name == "tests"):
            session.notify(name, posargs=())  # else they would be given ours: pytest and mkdocs know no --draft


@nox.session(default=False)
def checked(session: nox.Session) -> None:
    """Look at what is in dist as the package index will, and write its checksums."""
    install_groups(session, "package", project=False)
    files = sorted(str(path) for path in Path("dist").glob("tranship*") if path.suffix in (".whl", ".gz"))
    session.run("twine", "check", "--strict", *files)
    session.run("python", "release/checksums.py", "dist")
    session.log("if all sessions above are green: git tag vVERSION && twine upload dist/*.whl dist/*.tar.gz")


def build_all(session: nox.Session, dist: Path) -> Path:
    """Build all distributions, anew, and return the index that has them."""
    shutil.rmtree(dist, ignore_errors=True)
    for path in (".", *PLUGINS):
        session.run("python", "-m", "build", "--outdir", str(dist), path, silent=True)  # sdist, and wheel from it
    session.run("python", "release/index.py", str(dist), str(dist / "simple"))
    return dist / "simple"


def fresh(session: nox.Session, name: str, requirement: str, simple: Path, *, pip: bool = True) -> str:
    """Install a requirement into an environment that has nothing, as a user does; return its Python.

    Ours come from the index that was just built, and all else from where pip is told to look.
    """
    place = Path(session.create_tmp()).resolve() / name
    python = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run("python", "-m", "venv", "--clear", *(() if pip else ("--without-pip",)), str(place))
    install = ("python", "-m", "pip", "--python", python, "install", "--quiet", "--extra-index-url", simple.as_uri())
    session.run(*install, requirement)
    session.run("python", "-m", "pip", "--python", python, "check")
    return python


EXTRAS = sorted(PYPROJECT["project"]["optional-dependencies"])

REDIS = """
import tranship
client = tranship.Client("redis://127.0.0.1:1/0", submit_timeout=1)
try:
    client.open()
except tranship.errors.BrokerUnreachable as error:
    print("the plugin is there:", error)
"""

LOOK = """
import importlib.metadata
import tranship
print("installed in", *tranship.__path__)
distribution = importlib.metadata.distribution("tranship")
for point in distribution.entry_points:
    print(f"{point.group}: {point.name} = {point.value}")
assert {point.group for point in distribution.entry_points} >= {"console_scripts", "pytest11"}
assert any(str(file) == "tranship/py.typed" for file in distribution.files), "py.typed is missing"
"""
