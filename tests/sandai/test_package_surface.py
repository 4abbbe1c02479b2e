"""The public surface of the published packages: names, signatures and defaults, read from the index's own wheels."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from documents._published import fetch_published

VERSIONS = ("0.6.0", "0.6.2")
MODULES = ("", ".client", ".types", ".config", ".exceptions")
OURS = "tranship.compat.sandai"
READ = """
import dataclasses, dis, importlib, inspect, json, sys
sys.path.insert(0, sys.argv[1])
found = {}
def signature(it):
    return [[p.name, p.kind.name, p.default is p.empty, repr(p.default)] for p in inspect.signature(it).parameters.values()]
for name in sys.argv[2:]:
    module = importlib.import_module("sandai.operator_client" + name)
    entries = found[name] = {}
    listed = getattr(module, "__all__", None) or list(vars(module))
    for key, value in vars(module).items():
        if key not in listed or key.startswith("_") or not str(getattr(value, "__module__", "")).startswith("sandai"):
            continue
        entry = entries[key] = {}
        if inspect.isclass(value):
            entry["members"] = [one for one in vars(value) if not one.startswith("_")]
            fields = [one.name for one in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
            entry["members"] += fields
            own = "__init__" in vars(value)
            if issubclass(value, Exception) and own:
                entry["members"] += [one.argval for one in dis.get_instructions(value.__init__) if one.opname == "STORE_ATTR"]
            if own if issubclass(value, Exception) else not issubclass(value, dict):
                entry["calls"] = {"__init__": signature(value)}
                for one, member in vars(value).items():
                    if not one.startswith("_") and inspect.isfunction(member):
                        entry["calls"][one] = signature(getattr(value, one))
        elif callable(value):
            entry["calls"] = {"": signature(value)}
print(json.dumps(found))
"""
OTHER_DEFAULTS = {
    # 28800 there, but the document says 3600, which is what None stands for.
    "timeout": "None",
    # None there is "operator" there, too, once the variable has been looked for.
    "shared_transport_scope": "None",
}
INTERNAL = {
    # The handle's own parts are Celery's and the package's transport.
    ("AsyncTaskHandle", "__init__"),
    ("AsyncTaskHandle", "async_result"),
    ("AsyncTaskHandle", "transport"),
}


@pytest.fixture(scope="module", params=VERSIONS)
def published(request, tmp_path_factory):
    """What the package of one version exports."""
    pytest.importorskip("celery")
    folder = tmp_path_factory.mktemp("published")
    fetch_published(folder, f"sandai-operator-client=={request.param}")
    clean = {name: value for name, value in os.environ.items() if "OPERATOR" not in name}
    read = subprocess.run(
        [sys.executable, "-c", READ, str(folder), *MODULES],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean,
        check=True,
    )
    return json.loads(read.stdout)


def signature(it):
    return [
        [one.name, one.kind.name, one.default is one.empty, repr(one.default)]
        for one in inspect.signature(it).parameters.values()
    ]


def same_call(where, theirs, ours):
    """Whatever callers of theirs may write works with ours: same names, order, kinds and defaults; more may follow."""
    named = {one[0]: one for one in ours}
    for at, (name, kind, required, default) in enumerate(theirs):
        assert name in named, f"{where}: {name} is missing"
        if kind == "POSITIONAL_OR_KEYWORD":
            assert ours[at][:2] == [name, kind], where
        else:
            assert named[name][1] == kind, where
        if not required:
            assert not named[name][2], f"{where}: {name} has no default"
            wanted = OTHER_DEFAULTS.get(name) if named[name][3] != default else default
            assert named[name][3] == wanted or (name == "timeout" and named[name][3] == "3600"), f"{where}: {name}"
    assert all(not one[2] or one[1].startswith("VAR") or one[0] in [name for name, *_ in theirs] for one in ours), where


@pytest.mark.parametrize("name", MODULES)
def test_the_same_names_with_the_same_signatures(published, name):
    module = import_module(OURS + name)
    assert published[name], "nothing was read"
    for key, entry in published[name].items():
        assert hasattr(module, key), f"{OURS}{name} has no {key}"
        _compare(key, entry, getattr(module, key))


def _compare(key, entry, ours):
    for member in entry.get("members", ()):
        if (key, member) not in INTERNAL:
            fields = [one.name for one in dataclasses.fields(ours)] if dataclasses.is_dataclass(ours) else []
            known = member in fields or hasattr(ours, member) or member in _made(ours)
            assert known, f"{key} has no {member}"
    for call, theirs in entry.get("calls", {}).items():
        if (key, call) not in INTERNAL:
            same_call(f"{key}.{call}", theirs, signature(ours if call in {"", "__init__"} else getattr(ours, call)))


def _made(ours) -> set[str]:
    """Attributes that the constructors' code names."""
    made = [vars(kind).get("__init__") for kind in getattr(ours, "__mro__", ())]
    return {name for one in made if inspect.isfunction(one) for name in one.__code__.co_names}
