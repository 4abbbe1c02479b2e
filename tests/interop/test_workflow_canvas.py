"""What begins a workflow is what Celery's own canvas sends for the same thing, byte for byte but for the ids."""

from __future__ import annotations

import base64
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group  # type: ignore[import-untyped]

from tranship import Workflow, gather, named
from tranship.client._planner import plan
from tranship.protocol import Encoder

GOLDEN = Path(__file__).parents[1] / "golden" / "vectors"
APP = Celery("workflows", broker="memory://", backend="cache+memory://", set_as_current=False)
HEADERS = (
    "task",
    "id",
    "group",
    "group_index",
    "retries",
    "eta",
    "expires",
    "timelimit",
    "root_id",
    "parent_id",
)
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OMITTED = ("add_to_parent",)
"""Which Celery leaves in there from its own sending."""


@APP.task(name="m.add")  # type: ignore[untyped-decorator]
def celery_add(*_numbers: int) -> None: ...


@APP.task(name="m.total")  # type: ignore[untyped-decorator]
def celery_total(_numbers: list[int]) -> None: ...


@APP.task(name="m.alert")  # type: ignore[untyped-decorator]
def celery_alert(_task_id: str) -> None: ...


add, total, alert = (named(f"m.{name}", queue="q") for name in ("add", "total", "alert"))


def a(*numbers: int) -> Any:
    return celery_add.s(*numbers).set(queue="q")


def t() -> Any:
    return celery_total.s().set(queue="q")


def e() -> Any:
    return celery_alert.s().set(queue="q")


def with_errors(canvas: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it may do one day
        return canvas.on_error(e())


def two() -> Workflow[Any]:
    return gather([add.call(1, 1), add.call(2, 2)])


def steps() -> Any:
    return gather([add.step(2), add.step(3)])


def canvases() -> dict[str, tuple[Any, Workflow[Any]]]:
    pair, more = [a(1, 1), a(2, 2)], [a(2), a(3)]
    inner = [chain(a(1, 1), group([a(1), a(2)]), t()) for _ in range(2)]
    ours = add.call(1, 1).then(gather([add.step(1), add.step(2)])).then(total)
    return {
        "chain": (chain(a(1, 2), a(3), celery_add.si(9).set(queue="q")), add.call(1, 2).then(add, 3).then(add.call(9))),
        "group": (group(pair), two()),
        "chord": (chord(pair, t()), two().then(total)),
        "chain ends in group": (chain(a(1, 1), group(more)), add.call(1, 1).then(steps())),
        "chord in chain": (chain(a(1, 1), group(more), t()), add.call(1, 1).then(steps()).then(total)),
        "chord in the middle": (
            chain(a(1, 1), group(more), t(), a(4)),
            add.call(1, 1).then(steps()).then(total).then(add, 4),
        ),
        "two chords": (
            chain(group(pair), t(), group(more), t(), a(7)),
            two().then(total).then(steps()).then(total).then(add, 7),
        ),
        "group of chains": (
            group([chain(a(1, 1), a(2)), a(3, 3)]),
            gather([add.call(1, 1).then(add, 2), add.call(3, 3)]),
        ),
        "chord of chains": (
            chord([chain(a(1, 1), a(2)), a(3, 3)], t()),
            gather([add.call(1, 1).then(add, 2), add.call(3, 3)]).then(total),
        ),
        "chord of chains in chain": (
            chain(a(1, 1), group([chain(a(2), a(3)), a(3)]), t()),
            add.call(1, 1).then(gather([add.step(2).then(add, 3), add.step(3)])).then(total),
        ),
        "chord of chords": (
            chord([chord(pair, t()), a(3, 3)], t()),
            gather([two().then(total), add.call(3, 3)]).then(total),
        ),
        "group of chords": (group(inner), gather([ours, ours])),
        "errors of a chain": (with_errors(chain(a(1, 2), a(3))), add.call(1, 2).then(add, 3).on_error(alert)),
        "errors of a chord": (with_errors(chord(pair, t())), two().then(total).on_error(alert)),
        "errors of a group": (group([with_errors(one.clone()) for one in pair]), two().on_error(alert)),
        "options": (
            chain(
                a(1, 2).set(time_limit=4),
                a(3).set(headers={"colour": "red"}, countdown=3.0, expires=30.0, time_limit=5.0, ignore_result=True),
            ),
            add.options(run_timeout=4)
            .call(1, 2)
            .then(
                add.options(headers={"colour": "red"}, delay=3, deadline_in=30, run_timeout=5, store_result=False),
                3,
            ),
        ),
    }


def plain(value: Any) -> Any:
    """Without what each client has of its own: its address, and ids that whoever sends a step decides about."""
    if isinstance(value, dict):
        return {
            name: plain(part)
            for name, part in value.items()
            if name not in ("reply_to", *OMITTED) and not (name in ("root_id", "parent_id") and part is None)
        }
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def numbered(value: Any) -> Any:
    """With ids by the order in which they appear."""
    known: dict[str, str] = {}
    text = json.dumps(value, sort_keys=True)
    return json.loads(ID.sub(lambda found: known.setdefault(found[0], f"id-{len(known)}"), text))


def of_celery(canvas: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    sent: list[Any] = []
    sizes: list[int] = []
    backend = APP.backend
    monkeypatch.setattr(APP.amqp, "send_task_message", lambda _producer, _name, message, **_: sent.append(message))
    monkeypatch.setattr(backend, "apply_chord", lambda *_, **__: None)
    monkeypatch.setattr(backend, "ensure_chords_allowed", lambda: None)
    monkeypatch.setattr(backend, "set_chord_size", lambda _group, size: sizes.append(size))
    canvas.apply_async()
    return numbered([[*[_message(one.headers, json.loads(json.dumps(one.body))) for one in sent]], sorted(sizes)])


def of_ours(workflow: Workflow[Any]) -> Any:
    found = plan(workflow, now=1.0, reply_to=None, parent=None)
    encoder = Encoder()
    messages = [encoder.encode(one) for one in found.envelopes]
    sent = [_message(json.loads(one.headers), json.loads(one.body)) for one in messages]
    return numbered([sent, sorted(one.size for one in found.chords)])


def _message(headers: Any, body: Any) -> Any:
    return [plain({name: headers[name] for name in HEADERS}), plain(body)]


@pytest.mark.parametrize("name", canvases())
def test_as_celery_writes_it(name, monkeypatch):
    theirs, ours = canvases()[name]
    assert of_ours(ours) == of_celery(theirs, monkeypatch)


peers_add, peers_echo = named("peers.add", queue="peers"), named("peers.echo", queue="peers")


@pytest.mark.parametrize(
    ("files", "workflow"),
    [
        (["chain"], peers_add.call(1, 2).then(peers_add, 4)),
        (["group.0", "group.1"], gather([peers_add.call(1, 1), peers_add.call(2, 2)])),
        (["chord.0", "chord.1"], gather([peers_add.call(1, 1), peers_add.call(2, 2)]).then(peers_echo)),
    ],
    ids=["chain", "group", "chord"],
)
def test_as_it_was_captured(files, workflow):
    found = [json.loads((GOLDEN / f"redis-json-{name}.json").read_bytes()) for name in files]
    captured = [_message(one["headers"], json.loads(base64.b64decode(one["body"]))) for one in found]
    ours, _ = of_ours(workflow)
    assert ours == numbered(captured)
