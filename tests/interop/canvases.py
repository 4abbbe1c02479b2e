"""Workflows as a Celery client builds and sends them; loaded in its process.

Each is sent to one queue and brought back as plain data: what ``get()`` gave or raised, and what else can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from celery import chain, chord, group, signature
from celery.canvas import chunks, xmap, xstarmap

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class Sender:
    """Makes signatures for one queue."""

    def __init__(self, queue: str, mark: str) -> None:
        self.queue, self.mark = queue, mark

    def __call__(self, name: str, *args: Any, immutable: bool = False, **options: Any) -> Any:
        from interop.celery_app import app

        made = signature(f"interop.{name}", args=args, app=app, immutable=immutable)
        return made.set(queue=self.queue, **options)

    def map(self, name: str, items: list[Any]) -> Any:
        return xmap(self(name), items).set(queue=self.queue)

    def starmap(self, name: str, items: list[Any]) -> Any:
        return xstarmap(self(name), items).set(queue=self.queue)

    def chunks(self, name: str, items: list[Any], size: int) -> Any:
        return chunks(self(name), items, size).set(queue=self.queue)


def two_steps(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("add", 3))


def immutable(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("add", 5, 5, immutable=True), s("add", 1))


def ends_in_a_group(s: Sender) -> Any:
    return chain(s("add", 1, 1), group(s("add", 1), s("add", 2)))


def nested_chains(s: Sender) -> Any:
    return chain(s("add", 1, 1), chain(s("add", 1), chain(s("add", 2), s("add", 3))), s("add", 4))


def a_chord(s: Sender) -> Any:
    return chord([s("add", at, at) for at in range(10)], s("echo"))


def chord_in_a_chain(s: Sender) -> Any:
    return chain(s("add", 1, 1), group(s("add", 1), s("add", 2)), s("total"), s("add", 100))


def two_chords(s: Sender) -> Any:
    first, second = group(s("add", 1), s("add", 2)), group(s("add", 10), s("add", 20))
    return chain(s("add", 0, 0), first, s("total"), second, s("total"), s("add", 1000))


def chains_in_a_header(s: Sender) -> Any:
    return chord([chain(s("add", 1, 1), s("add", 1)), s("add", 5, 5), chain(s("add", 2, 2), s("add", 2))], s("echo"))


def chord_in_a_header(s: Sender) -> Any:
    return chord([chord([s("add", 1, 1), s("add", 2, 2)], s("total")), s("add", 3, 3)], s("echo"))


def group_in_a_header(s: Sender) -> Any:
    tail = chain(s("add", 1, 1), group(s("add", 1), s("add", 2)))
    return chord([s("add", 7, 7), tail], s("echo"))


def chord_with_a_group_for_a_body(s: Sender) -> Any:
    return chain(group(s("add", 1, 1), s("add", 2, 2)), group(s("echo"), s("total")))


def chord_with_a_chain_for_a_body(s: Sender) -> Any:
    return chord([s("add", 1, 1), s("add", 2, 2)], chain(s("total"), s("add", 10)))


def empty_header(s: Sender) -> Any:
    return chain(s("add", 1, 1), chord([], s("echo")))


def unwanted_results(s: Sender) -> Any:
    return chain(s("add", 1, 2, ignore_result=True), s("add", 3))


def a_step_that_retries(s: Sender) -> Any:
    return chain(s("flaky", 2), s("add", 3))


def where_steps_belong(s: Sender) -> Any:
    return chain(s("whence", immutable=True), s("whence", immutable=True))


def where_members_belong(s: Sender) -> Any:
    return chord([s("whence", immutable=True), s("whence", immutable=True)], s("echo"))


def stamped(s: Sender) -> Any:
    made = chain(s("add", 1, 2), s("whence", immutable=True))
    made.stamp(tenant="t-1")
    return made


def failing_step(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("fail", "tray 2", immutable=True), s("add", 3), s("add", 4))


def unknown_step(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("nobody-has-this"), s("add", 3))


def failing_member(s: Sender) -> Any:
    return chord([s("add", 1, 1), s("fail", "tray 3"), s("add", 2, 2)], s("echo"))


def failing_chain_in_a_header(s: Sender) -> Any:
    failing = chain(s("fail", "tray 4"), s("add", 1))
    return chord([s("add", 1, 1), failing], s("echo"))


def what_follows_a_failing_chord(s: Sender) -> Any:
    return chain(s("add", 1, 1), group(s("add", 1), s("fail", "tray 5", immutable=True)), s("total"), s("add", 1))


def errback_by_id(s: Sender) -> Any:
    return s("fail", "tray 6").on_error(named(s, "by_id"))


def errback_by_error(s: Sender) -> Any:
    return s("fail", "tray 7").on_error(named(s, "by_error"))


def errback_of_a_chain(s: Sender) -> Any:
    return chain(s("add", 1, 1), s("fail", "tray 8", immutable=True), s("add", 3)).on_error(named(s, "by_id"))


def errback_of_a_body(s: Sender) -> Any:
    return chord([s("add", 1, 1), s("fail", "tray 9")], s("echo").on_error(named(s, "by_id")))


def slow_members(s: Sender) -> Any:
    return chord([s("slow", 1.0), s("slow", 1.0)], s("echo"))


def continued_elsewhere(s: Sender) -> Any:
    return chain(s("count", 1), s("echo").set(queue=f"gone-{s.queue}"))


def linked_elsewhere(s: Sender) -> Any:
    return s("count", 81).set(link=[s("count", 82, immutable=True).set(queue=f"gone-{s.queue}")])


def with_one_id(s: Sender) -> Any:
    """As near to a circle as a message can come: what follows has the id of what it follows, in a chain and as a link."""
    again = s("count", 84, immutable=True).set(task_id=f"one-{s.mark}")
    return chain(s("count", 83).set(task_id=f"one-{s.mark}", link=[again]), again)


def third_step_unknown(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("add", 3), s("nobody-has-this"), s("add", 4))


def a_thousand_members(s: Sender) -> Any:
    return chain(s("add", 0, 0), group([s("add", at) for at in range(1000)]), s("total"))


def ten_thousand_members(s: Sender) -> Any:
    return chord([s("add", at, 1) for at in range(10_000)], s("total"))


def two_hundred_steps(s: Sender) -> Any:
    return chain([s("add", 0, 1), *(s("add", 1) for _ in range(199))])


def steps_with_options(s: Sender) -> Any:
    options = {"priority": 7, "expires": 600, "time_limit": 50, "headers": {"colour": "red"}, "countdown": 0.1}
    return chain(s("add", 1, 2).set(priority=4), s("travelled").set(**options), s("echo"))


def step_without_a_priority(s: Sender) -> Any:
    return chain(s("add", 1, 2), s("travelled"))


def members_with_options(s: Sender) -> Any:
    """The header's, and the body's."""
    first, second = s("travelled").set(priority=9), s("travelled").set(priority=3, headers={"colour": "blue"})
    body = chain(s("echo").set(priority=6), group(s("echo"), s("travelled").set(priority=6, time_limit=9)))
    return chain(s("add", 1, 1), group(first, second), body)


def link_with_options(s: Sender) -> Any:
    """What is linked runs, and its result is nobody's: it is read of the chord that it completes."""
    return chain(s("add", 1, 1), chord([s("travelled").set(priority=8)], s("echo").set(priority=9)))


def step_by_routing_key(s: Sender) -> Any:
    made = s("travelled")
    made.options.pop("queue")
    return chain(s("add", 1, 1), made.set(exchange=s.queue, routing_key=s.queue))


def mapped(s: Sender) -> Any:
    return s.map("echo", [1, "two", [3], None])


def mapped_in_threads(s: Sender) -> Any:
    return s.starmap("count", [[1, 0.01], [2], [3]])


def starmapped(s: Sender) -> Any:
    return s.starmap("add", [[1, 2], [3, 4]])


def maps_of_nothing(s: Sender) -> Any:
    return group(s.map("echo", []), s.starmap("add", []))


def maps_in_a_chain(s: Sender) -> Any:
    return chain(s("add", 1, 2), s.map("echo", [1, 2]), s("total"), s("add", 5))


def maps_in_a_header(s: Sender) -> Any:
    return chord([s.map("total", [[1, 2], [3]]), s.starmap("add", [[4, 5]])], s("echo"))


def failing_map(s: Sender) -> Any:
    return chain(s.map("fail", ["tray 10", "tray 11"]), s("echo"))


def map_of_an_unknown_task(s: Sender) -> Any:
    return s.map("nobody-has-this", [1])


def map_with_wrong_arguments(s: Sender) -> Any:
    return s.starmap("add", [[1]])


def starmap_of_no_lists(s: Sender) -> Any:
    return s.starmap("add", [1])


def chunked(s: Sender) -> Any:
    # As its apply_async does, which loses the queue.
    parts = s.chunks("add", [[at, at] for at in range(7)], 3).group()
    return group([one.set(queue=s.queue) for one in parts.tasks])


def chunks_in_a_chain(s: Sender) -> Any:
    """Which hands on what its parts are, and does not wait for them."""
    return chain(s("add", 1, 1), s.chunks("count", [[71], [72], [73]], 2))


def nightly_cleanup(s: Sender) -> Any:
    return celerys(s, "backend_cleanup")


def no_real_task(s: Sender) -> Any:
    return celerys(s, "chain", 1)


def accumulated(s: Sender) -> Any:
    return celerys(s, "accumulate", 1, 2)


def celerys(s: Sender, name: str, *args: Any) -> Any:
    from interop.celery_app import app

    return signature(f"celery.{name}", args=args, app=app).set(queue=s.queue)


def named(s: Sender, name: str) -> Any:
    made = s(name)
    made.kwargs = {"mark": s.mark}
    return made


SIMPLE: list[Callable[[Sender], Any]] = [
    two_steps,
    immutable,
    ends_in_a_group,
    nested_chains,
    unwanted_results,
    a_step_that_retries,
    where_steps_belong,
    stamped,
    failing_step,
    unknown_step,
    third_step_unknown,
    errback_by_id,
    errback_by_error,
    errback_of_a_chain,
]
CHORDS: list[Callable[[Sender], Any]] = [
    a_chord,
    chord_in_a_chain,
    two_chords,
    chains_in_a_header,
    chord_in_a_header,
    group_in_a_header,
    chord_with_a_group_for_a_body,
    chord_with_a_chain_for_a_body,
    empty_header,
    where_members_belong,
    maps_in_a_header,
    failing_member,
    failing_chain_in_a_header,
    what_follows_a_failing_chord,
    errback_of_a_body,
]
OPTIONS: list[Callable[[Sender], Any]] = [
    steps_with_options,
    step_without_a_priority,
    members_with_options,
    link_with_options,
    step_by_routing_key,
]
BUILT_IN: list[Callable[[Sender], Any]] = [
    mapped,
    mapped_in_threads,
    starmapped,
    maps_of_nothing,
    maps_in_a_chain,
    failing_map,
    map_of_an_unknown_task,
    map_with_wrong_arguments,
    starmap_of_no_lists,
    chunked,
    chunks_in_a_chain,
    nightly_cleanup,
    no_real_task,
    accumulated,
]
LARGE: list[Callable[[Sender], Any]] = [a_thousand_members, two_hundred_steps]
OTHERS: list[Callable[[Sender], Any]] = [
    slow_members,
    continued_elsewhere,
    linked_elsewhere,
    with_one_id,
    ten_thousand_members,
]
BUILDERS = {one.__name__: one for one in (*SIMPLE, *CHORDS, *OPTIONS, *BUILT_IN, *LARGE, *OTHERS)}


def run(name: str, queue: str, mark: str, seconds: float) -> dict[str, Any]:
    """Send a workflow and return what became of it, the same for the same workflow whoever runs it."""
    result = BUILDERS[name](Sender(queue, mark)).apply_async()
    known: dict[str, str] = {}
    seen = {"ended": plain(ended(result, seconds), known)}
    steps = []
    node = result.parent
    while node is not None and seen["ended"][0] != "value":
        steps.append(plain(ended(node, seconds), known))
        node = node.parent
    return {**seen, "before": steps}


def ended(result: Any, seconds: float) -> list[Any]:
    try:
        return ["value", result.get(timeout=seconds)]
    except Exception as error:
        return ["error", type(error).__name__, str(error)]


def plain(value: Any, known: dict[str, str]) -> Any:
    """Return ``value`` with ids replaced by a number each, which is the same for the same id."""
    if isinstance(value, str):
        return UUID.sub(lambda found: known.setdefault(found[0], f"<{len(known)}>"), value)
    if isinstance(value, dict):
        return {name: plain(part, known) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, known) for one in value]
    return value
