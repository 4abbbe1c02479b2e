"""The public surface of the published package: names, signatures and defaults, read from the index's own wheel.

Its modules are parsed, not imported: importing them would take a dozen packages that nothing here needs.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from importlib import import_module

import pytest

from documents._published import fetch_published
from tranship.compat.avtomatika import WorkerConfig

PACKAGES = ("avtomatika-worker==1.0b20", "rxon==1.0b17")
OURS = "tranship.compat.avtomatika"
CLASSES = {
    "Worker": "worker",
    "SkillBlueprint": "worker",
    "OrchestratorClient": "worker",
    "TaskFiles": "task_files",
}
DATA = ("SkillInfo", "ResourcesUsage", "DeviceUsage")
MORE_DATA = ("FileMetadata",)
"""What methods of exported classes return, and the package does not export itself."""
FUNCTIONS = ("setup_logging", "is_valid_identifier", "validate_identifier")
LEFT_OUT = {
    "ObservabilityManager": "traces and metrics of its own: workers have /metrics and middleware",
}
OTHERWISE = {
    ("OrchestratorClient", "__init__"): "made by the worker, of a client of the broker's instead of an HTTP transport",
}
"""Calls that only the package itself makes."""
CONFIG_LEFT_OUT = {
    "HOSTNAME, IP_ADDRESS, RESOURCES, INSTALLED_SOFTWARE, INSTALLED_ARTIFACTS, EXTRA_CAPABILITIES, COST_PER_SKILL": (
        "what registering with an orchestrator tells; heartbeats have labels"
    ),
    "REQUIRE_TASK_SIGNATURE": "with ORCHESTRATOR_SECRET_KEY every task is to be signed",
    "RESULT_MAX_RETRIES, RESULT_RETRY_INITIAL_DELAY, REGISTRATION_RETRY_INITIAL_DELAY, REGISTRATION_RETRY_MAX_DELAY, "
    "RATE_LIMIT_BACKOFF_FLOOR, TASK_POLL_TIMEOUT, TASK_POLL_ERROR_DELAY, POLL_BACKOFF_INITIAL, POLL_BACKOFF_MAX, "
    "POLL_BACKOFF_FACTOR, IDLE_POLL_DELAY, HEARTBEAT_COOLDOWN": "how often it asks an orchestrator; here that is its plugin's business",
    "WORKER_BLOB_CACHE_DIR": "a task's downloads are its own and gone with it",
    "STRICT_EVENT_VALIDATION, WORKER_ENABLE_METRICS, WORKER_TELEMETRY_DEADBAND, WORKER_TELEMETRY_FORCE_INTERVAL": (
        "events and telemetry of its own protocol"
    ),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The trees of the package's modules, and of the models it exports from another one."""
    folder = tmp_path_factory.mktemp("published")
    fetch_published(folder, *PACKAGES)
    return {
        f"{path.parent.name}.{path.stem}": ast.parse(path.read_text("utf-8"))
        for name in ("avtomatika_worker", "rxon")
        for path in (folder / name).glob("*.py")
    }


def exported(tree):
    found = [one for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == "__all__"]
    return set(ast.literal_eval(found[0].value))


def definition(trees, name):
    kinds = ast.ClassDef | ast.FunctionDef
    found = [one for tree in trees for one in tree.body if isinstance(one, kinds) and one.name == name]
    assert len(found) == 1, name
    return found[0]


def theirs(function):
    """Name, kind and default of each parameter but the object itself."""
    given = function.args
    places = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(places) - len(given.defaults)) + given.defaults
    rows = [(one.arg, "POSITIONAL_OR_KEYWORD", default) for one, default in zip(places, defaults, strict=True)]
    rows += [(one.arg, "KEYWORD_ONLY", value) for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        rows.append((given.kwarg.arg, "VAR_KEYWORD", None))
    return [(name, kind, _text(default)) for name, kind, default in rows if name != "self"]


def _text(default):
    return None if default is None else ast.unparse(default)


def ours(function):
    return [
        (one.name, one.kind.name, _shown(one.default))
        for one in inspect.signature(function).parameters.values()
        if one.name != "self"
    ]


def _shown(default):
    if default is inspect.Parameter.empty:
        return None
    return default.__name__ if isinstance(default, type) else repr(default)


def same(where, published, own):
    """What callers of theirs may write works with ours; more may follow, by keyword."""
    assert own[: len(published)] == published, where
    assert all(kind == "KEYWORD_ONLY" for _, kind, _ in own[len(published) :]), where


def test_every_name_is_here(published):
    names = exported(published["avtomatika_worker.__init__"])
    module = import_module(OURS)
    assert names - set(module.__all__) == set(LEFT_OUT)
    assert names - set(LEFT_OUT) == {*CLASSES, *DATA, *FUNCTIONS, "WorkerConfig"}


@pytest.mark.parametrize(("name", "home"), CLASSES.items())
def test_classes_have_the_same_methods(name, home, published):
    kind = getattr(import_module(OURS), name)
    methods = [
        one
        for one in definition([published[f"avtomatika_worker.{home}"]], name).body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        and (not one.name.startswith("_") or one.name == "__init__")
    ]
    assert methods
    for one in methods:
        own = getattr(kind, one.name, None)
        assert own is not None, f"{name} has no {one.name}"
        if (name, one.name) in OTHERWISE:
            continue
        same(f"{name}.{one.name}", theirs(one), ours(own))
        if not one.decorator_list:
            assert inspect.iscoroutinefunction(own) is isinstance(one, ast.AsyncFunctionDef), f"{name}.{one.name}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same(name, published):
    same(name, theirs(definition(published.values(), name)), ours(getattr(import_module(OURS), name)))


@pytest.mark.parametrize("name", [*DATA, *MORE_DATA])
def test_data_has_the_same_fields(name, published):
    fields = [
        (one.target.id, _text(one.value))
        for one in definition([published["rxon.models"]], name).body
        if isinstance(one, ast.AnnAssign)
    ]
    own = dataclasses.fields(getattr(import_module(OURS), name))
    assert fields == [(one.name, None if one.default is dataclasses.MISSING else repr(one.default)) for one in own]


def test_error_codes_have_the_same_values(published):
    tree = published["avtomatika_worker.types"]
    values = {
        one.targets[0].id: one.value.value
        for one in published["rxon.constants"].body
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)
    }
    codes = {
        name.asname: values[name.name]
        for one in tree.body
        if isinstance(one, ast.ImportFrom) and one.module == "rxon.constants"
        for name in one.names
    }
    assert len(codes) == 10
    for module in (import_module(f"{OURS}.types"), import_module(f"{OURS}.typing")):
        assert set(module.__all__) == exported(tree)
        assert {name: getattr(module, name) for name in codes} == codes


def test_the_config_s_attributes_are_here_or_listed(published):
    init = definition([published["avtomatika_worker.config"]], "WorkerConfig").body
    names = {
        one.attr
        for one in ast.walk(ast.Module(init, []))
        if isinstance(one, ast.Attribute) and one.attr.isupper() and getattr(one.value, "id", "") == "self"
    }
    left_out = {name for row in CONFIG_LEFT_OUT for name in row.split(", ")}
    assert names - set(vars(WorkerConfig())) == left_out
