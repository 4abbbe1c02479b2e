"""Arguments that are made up are such as the task takes, and arrive as they were sent."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tranship import Depends, Priority, TaskClass, named, task
from tranship.errors import ConfigurationError
from tranship.protocol import Decoder, Encoder
from tranship.testing.strategies import arguments, calls

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


class Address(BaseModel):
    street: str = Field(min_length=1, max_length=20)
    number: int = Field(gt=0, le=500)
    since: datetime | None = None


@dataclass
class Parcel:
    id: UUID
    weight: Annotated[float, Field(ge=0, lt=100)]


SEEN: list[object] = []


@task
def send(
    parcel: Parcel,
    /,
    to: Address,
    *also: Annotated[int, Field(ge=0)],
    how: Literal["air", "sea"] = "sea",
    tags: dict[str, list[int]] | None = None,
    **notes: str,
) -> None:
    SEEN.append((parcel, to, also, how, tags, notes))


class Greet(TaskClass):
    class Args(BaseModel):
        name: str = Field(pattern=r"^[A-Z][a-z]+$")
        times: int = Field(default=1, ge=1, le=3)

    def run(self, args: Args) -> str:
        return args.name * args.times


@quick
@given(arguments(send))
def test_a_function_gets_what_its_annotations_say(made):
    args, kwargs = made
    send(*args, **kwargs)
    parcel, to, also, how, _tags, notes = SEEN.pop()
    assert isinstance(parcel, Parcel)
    assert isinstance(to, Address)
    assert 0 < to.number <= 500
    assert 0 <= parcel.weight < 100
    assert all(one >= 0 for one in also)
    assert how in {"air", "sea"}
    assert all(isinstance(one, str) for one in notes.values())


@quick
@given(calls(send))
def test_calls_survive_the_wire(call):
    envelope = call.task.envelope(call.args, call.kwargs, now=0.0)
    arrived = Decoder().decode(Encoder().encode(envelope).raw(), queue="default", priority=Priority.NORMAL)
    args, kwargs = send.arguments.made(arrived.args, arrived.kwargs)
    sent_args, sent_kwargs = send.arguments.made(call.args, call.kwargs)
    assert (tuple(args), dict(kwargs)) == (tuple(sent_args), dict(sent_kwargs))


@quick
@given(calls(Greet))
def test_a_class_gets_its_model(call):
    assert call.kwargs["name"][0].isupper()
    assert 1 <= call.kwargs.get("times", 1) <= 3


def found(strategy, condition):
    return find(strategy, condition, settings=settings(phases=[Phase.generate], deadline=None))


def test_every_part_is_made_up_and_left_out():
    assert found(arguments(send), lambda made: "how" not in made[1])
    assert found(arguments(send), lambda made: made[1].get("how") == "air")
    assert found(arguments(send), lambda made: len(made[0]) > 2)


def test_a_strategy_of_ones_own_wins():
    @task(name="strategies.label")
    def label(what: object, size: int = 1, *, place: Annotated[str, Depends(lambda: "here")] = "") -> None: ...

    with pytest.raises(ConfigurationError, match=r"what of task strategies\.label .* says too little: give a strategy"):
        arguments(label)
    _, kwargs = found(arguments(label, what=st.just("x")), lambda made: "size" in made[1])
    assert kwargs["what"] == "x"
    assert "place" not in kwargs
    with pytest.raises(ConfigurationError, match="no argument 'wat' to give a strategy for; it has what, size"):
        arguments(label, what=st.none(), wat=st.none())
    with pytest.raises(ConfigurationError, match="defined elsewhere"):
        arguments(named("elsewhere.work"))


FIRST_TEXT = """
from hypothesis import Phase, find, settings
from tranship import task
from tranship.testing.strategies import arguments

@task
def greet(name: str, *words: str, **notes: str) -> None: ...

find(arguments(greet), lambda made: made[1]["name"], settings=settings(phases=[Phase.generate]))
"""


def test_the_first_text_of_a_directory_does_not_wait_for_a_table_of_an_encoding(tmp_path: Path):
    subprocess.run([sys.executable, "-c", FIRST_TEXT], cwd=tmp_path, check=True, timeout=60)
    tables = [path.name for path in tmp_path.glob(".hypothesis/unicode_data/*/*")]
    assert tables
    assert not [name for name in tables if name.startswith("codec")], "a million characters were encoded"
