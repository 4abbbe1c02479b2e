"""What tasks take and return as data, and which changes of it break somebody."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from cli_kit import cli, fails
from pydantic import BaseModel

from tranship import RetryPolicy, TaskClass, Worker, task
from tranship.errors import ConfigurationError
from tranship.schema import breaking_changes, describe, document


class Item(BaseModel):
    name: str
    count: int = 1
    parts: list[Item] = []


def ship(item: Item, to: str, *more: int, speed: Literal["slow", "fast"] = "slow", **labels: str) -> dict[str, int]:
    """Ship it."""
    return {}


class Resize(TaskClass, name="schema.resize", queue="media"):
    class Args(BaseModel):
        uri: str
        width: int = 640

    async def run(self, args: Args) -> tuple[str, int]:
        return args.uri, args.width


def test_a_task_is_described_by_its_annotations():
    found = describe(task(queue="shop", retry=RetryPolicy(max_attempts=3), run_timeout=5)(ship))
    assert (found["name"], found["queue"], found["doc"]) == ("test_schema.ship", "shop", "Ship it.")
    assert found["options"]["run_timeout"] == 5
    assert found["options"]["retry"]["max_attempts"] == 3
    args = found["args"]
    assert args["required"] == ["item", "to"]
    assert args["properties"]["to"] == {"type": "string"}
    assert args["properties"]["speed"] == {"default": "slow", "enum": ["slow", "fast"], "type": "string"}
    assert args["additionalProperties"] == {"type": "string"}
    assert args["x-more-positional"] == {"type": "integer"}
    assert found["positional"] == ["item", "to"]
    assert found["result"] == {"additionalProperties": {"type": "integer"}, "type": "object"}
    json.dumps(found)


def test_what_stays_with_the_worker_is_told_too():
    found = describe(task(task_type="gpu", isolation="process")(ship))
    assert found["options"] == {"task_type": "gpu", "isolation": "process"}


def test_typed_dicts_and_iterables_have_schemas():
    class Point(TypedDict):
        x: int
        name: NotRequired[str]

    def move(to: Iterable[Point]) -> None: ...

    move.__annotations__["to"] = Iterable[Point]
    schema = describe(task(name="move")(move))["args"]
    assert schema["properties"]["to"]["type"] == "array"
    point = schema["$defs"]["Point"]
    assert (point["required"], sorted(point["properties"])) == (["x"], ["name", "x"])


def test_so_is_a_class_task_and_all_of_a_worker():
    (found,) = Worker("memory://", tasks=[Resize]).describe()
    assert found["args"]["required"] == ["uri"]
    assert found["positional"] == ["uri", "width"]
    assert found["result"]["type"] == "array"


def test_what_has_no_schema_is_anything():
    class Opaque: ...

    def work(a, b: Opaque, c: Missing = None): ...  # noqa: F821 - on purpose

    args = describe(task(name="x")(work))["args"]
    assert args["properties"] == {"a": {}, "b": {}, "c": {"default": None}}


def test_without_pydantic_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ConfigurationError, match="pip install 'tranship"):
        describe(Resize.task)


def test_two_different_tasks_of_one_name_are_refused():
    def other(a: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"two tasks are named 'schema\.resize'"):
        document([Resize.task, task(name="schema.resize")(other)])


def changes(old: Any, new: Any, **options: Any) -> list[str]:
    """What the change of the annotations of ``value`` breaks; of the result the other way round."""

    def made(hint: Any, **more: Any) -> Any:
        def work(value): ...

        work.__annotations__ = {"value": hint, **more}
        return document([task(name="t")(work)])

    forward = breaking_changes(made(old), made(new))
    backward = breaking_changes(made(int, **{"return": new}), made(int, **{"return": old}))
    # Where an argument takes less, a result that goes the other way may be more.
    assert bool(forward) == bool(backward) or options.get("differ")
    return forward


class Two(BaseModel):
    name: str
    count: int = 1
    parts: list[Two] = []
    more: str = ""


class Strict(BaseModel):
    name: str
    count: int
    parts: list[Strict] = []


class Renamed(BaseModel):
    title: str = ""
    count: int = 1
    parts: list[Renamed] = []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (int, str, "argument value: it took integer, and takes string"),
        (int | None, int, "argument value: it took null, and takes integer"),
        (float, int, "argument value: it took integer or number, and takes integer"),
        (Any, int, "argument value: it took anything, and takes integer"),
        (list[int], list[str], "argument value[]: it took integer, and takes string"),
        (list, list[str], "argument value[]: it took anything, and takes string"),
        (dict[str, int], dict[str, str], "argument value[any name]: it took integer, and takes string"),
        (Literal["a", "b"], Literal["a"], "argument value: it took 'a', 'b', and takes 'a'"),
        (str, Literal["a"], "argument value: it took anything, and takes 'a'"),
        (tuple[int, str], tuple[int, int], "argument value[1]: it took string, and takes integer"),
    ],
    ids=str,
)
def test_what_takes_less_breaks(old, new, said):
    assert changes(old, new) == [f"task t: {said}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (int, int),
        (int, int | None),
        (int, float),
        (int, Any),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
        (list[int], list[int | str]),
        (dict[str, int], dict[str, Any]),
        (Item, Two),
        (Item, Item | None),
    ],
    ids=str,
)
def test_what_takes_more_breaks_nobody(old, new):
    assert changes(old, new) == []


def test_fields_of_models_count():
    assert changes(Item, Strict, differ=True)[0] == "task t: argument value.count: it is required, and was not"
    assert "task t: argument value.name: it is gone, and would be ignored" in changes(Item, Renamed, differ=True)


def of(function: Any, **options: Any) -> Any:
    return document([task(name="t", **options)(function)])


def test_arguments_are_told_by_name_and_place():
    def before(a: int, b: int, c: int = 0, *, d: int = 0): ...

    def renamed(a: int, x: int, c: int = 0, *, d: int = 0): ...

    def moved(b: int, a: int, c: int = 0, *, d: int = 0): ...

    def added(a: int, b: int, c: int = 0, e: int = 0, *, d: int = 0, f: int = 0): ...

    def needed(a: int, b: int, c: int, *, d: int = 0, e: int): ...

    def looser(a: int, b: int = 0, c: int = 0, *, d: int = 0, **rest: Any): ...

    old = of(before)
    assert breaking_changes(old, of(before)) == []
    assert breaking_changes(old, of(added)) == []
    assert breaking_changes(old, of(looser)) == []
    assert breaking_changes(old, of(renamed)) == [
        "task t: argument b: it is gone",
        "task t: argument x: it is new and required",
    ]
    assert breaking_changes(old, of(moved)) == [
        "task t: argument a: it was number 1 by position and is number 2",
        "task t: argument b: it was number 2 by position and is number 1",
    ]
    assert breaking_changes(old, of(needed)) == [
        "task t: argument c: it is required, and was not",
        "task t: argument e: it is new and required",
    ]
    assert breaking_changes(old, {"tasks": {}}) == ["task t: it is gone"]
    assert "its queue was 'default' and is 'other'" in breaking_changes(old, of(before, queue="other"))[0]


def test_results_are_told_as_readers_see_them():
    def before() -> int: ...

    def after() -> int | None: ...

    assert breaking_changes(of(before), of(after)) == ["task t: result: it was integer, and may be null"]
    assert breaking_changes(of(after), of(before)) == []


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Two versions of a module."""
    text = (
        "from tranship import task\n@task(name='shop.ship', queue='shop')\n"
        "def ship(item: str, count: int = 1) -> bool:\n    return True\n"
    )
    (tmp_path / "schema_shop.py").write_text(text)
    (tmp_path / "schema_shop_next.py").write_text(text.replace("item: str", "item: str, to: str"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands(shop):
    shown = cli("describe", "schema_shop")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "item: string, count: integer = 1" in shown.stdout
    (listed,) = json.loads(cli("describe", "schema_shop:ship", "--json").stdout)
    assert (listed["name"], listed["args"]["required"]) == ("shop.ship", ["item"])
    assert cli("schema", "export", "schema_shop", "-o", "old.json").exit_code == 0
    assert json.loads((shop / "old.json").read_text()) == json.loads(cli("schema", "export", "schema_shop").stdout)
    assert cli("schema", "diff", "old.json", "schema_shop").exit_code == 0
    broken = cli("schema", "diff", "old.json", "schema_shop_next")
    assert broken.exit_code == 1
    assert broken.stdout.splitlines()[0] == "task shop.ship: argument to: it is new and required"
    as_json = cli("schema", "diff", "old.json", "schema_shop_next", "--json")
    assert (as_json.exit_code, len(json.loads(as_json.stdout)["breaking"])) == (1, 2)


def test_mistakes_of_the_commands_are_said(shop):
    (shop / "bad.json").write_text("{}")
    (shop / "worse.json").write_text("{")
    fails(cli("schema", "diff", "bad.json", "schema_shop"), 2, "bad.json is no document of")
    fails(cli("schema", "diff", "worse.json", "schema_shop"), 2, "worse.json is no JSON")
    fails(cli("schema", "diff", "gone.json", "schema_shop"), 2, "gone.json cannot be read")
    fails(cli("schema", "export", "schema_shop", "-o", "no/where.json"), 2, "cannot be written")
    fails(cli("describe", "schema_nowhere"), 2, "there is no module 'schema_nowhere'")
