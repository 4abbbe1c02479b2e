"""The blocking facade is the asynchronous one without ``await``: names, parameters, defaults, documentation."""

from __future__ import annotations

import inspect
import re
from typing import get_overloads

import pytest

from tranship.client import AsyncClient, AsyncTaskHandle, AsyncWorkflowHandle
from tranship.errors import InvalidOptionError
from tranship.sync import Client, TaskHandle, WorkflowHandle

PAIRS = [(Client, AsyncClient), (TaskHandle, AsyncTaskHandle), (WorkflowHandle, AsyncWorkflowHandle)]
RENAMED = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__"}
BLOCKING = {
    "AsyncClient": "Client",
    "AsyncTaskHandle": "TaskHandle",
    "AsyncWorkflowHandle": "WorkflowHandle",
    "AsyncIterator": "Iterator",
}
NOT_AWAITED = {"handle", "capabilities", "__init__", "__repr__", "__eq__", "__hash__"}


def public(cls) -> dict[str, object]:
    special = {"__init__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__repr__", "__eq__", "__hash__"}
    return {name: value for name, value in vars(cls).items() if not name.startswith("_") or name in special}


def members(pair):
    blocking, asynchronous = map(public, pair)
    return {name: (member, asynchronous.get(RENAMED.get(name, name))) for name, member in blocking.items()}


CASES = [
    pytest.param(*members(pair)[name], name, id=f"{pair[0].__name__}.{name}")
    for pair in PAIRS
    for name in members(pair)
    if callable(members(pair)[name][0])
]


def blocking_text(text: object) -> str:
    return re.sub(r"Async(Client|TaskHandle|WorkflowHandle|Iterator)", lambda found: BLOCKING[found[0]], str(text))


def parameters(function) -> list[tuple[str, object, object, str]]:
    return [
        (one.name, one.kind, one.default, blocking_text(one.annotation))
        for one in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_names_are_the_same(pair):
    blocking, asynchronous = map(public, pair)
    assert {RENAMED.get(name, name) for name in blocking} == set(asynchronous)


@pytest.mark.parametrize(("blocking", "asynchronous", "name"), CASES)
def test_parameters_and_defaults_are_the_same(blocking, asynchronous, name):
    assert parameters(blocking) == parameters(asynchronous)


@pytest.mark.parametrize(("blocking", "asynchronous", "name"), CASES)
def test_what_comes_back_is_the_same(blocking, asynchronous, name):
    returned = [inspect.signature(one).return_annotation for one in (blocking, asynchronous)]
    assert returned[0] == blocking_text(returned[1])


@pytest.mark.parametrize(("blocking", "asynchronous", "name"), CASES)
def test_only_the_asynchronous_one_is_awaited(blocking, asynchronous, name):
    assert not inspect.iscoroutinefunction(blocking)
    awaited = inspect.iscoroutinefunction(asynchronous) or inspect.isasyncgenfunction(asynchronous)
    assert awaited is (name not in NOT_AWAITED)


@pytest.mark.parametrize(("blocking", "asynchronous", "name"), CASES)
def test_documentation_is_the_same(blocking, asynchronous, name):
    if name.startswith("__"):
        return
    expected = (asynchronous.__doc__ or "").replace("; awaiting its ``result()``", "; its ``result()``")
    assert blocking.__doc__ == blocking_text(expected)


def test_submit_is_typed_in_the_same_ways():
    both = [get_overloads(one.submit) for one in (Client, AsyncClient)]
    assert [parameters(one) for one in both[0]] == [parameters(one) for one in both[1]]
    assert len(both[0]) == 6


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_properties_are_properties_in_both(pair):
    blocking, asynchronous = map(public, pair)
    for name, member in blocking.items():
        if isinstance(member, property):
            assert isinstance(asynchronous[name], property)


def test_handles_carry_the_same_attributes():
    assert TaskHandle.__slots__ == AsyncTaskHandle.__slots__


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("task_id", [7, None, ""])
def test_an_id_is_a_text(kind, task_id):
    with pytest.raises(InvalidOptionError, match=r"task_id is .*; expected a text"):
        kind("memory://").handle(task_id)
