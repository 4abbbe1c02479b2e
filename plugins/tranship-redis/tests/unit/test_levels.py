"""Names on the server and priority levels, as a Celery peer has them."""

from tranship.envelope import Priority
from tranship_redis._keys import PIDBOX, Keys
from tranship_redis._levels import Levels

HIGH, NORMAL, LOW, VERY_LOW = Priority


def test_celerys_names() -> None:
    keys = Keys("", 4)

    assert [keys.list("q", step) for step in (0, 3, 9)] == [b"q", b"q\x06\x163", b"q\x06\x169"]
    assert (keys.unacked, keys.unacked_index, keys.unacked_mutex) == (b"unacked", b"unacked_index", b"unacked_mutex")
    assert keys.binding("q") == b"_kombu.binding.q"
    assert keys.result("id-1") == b"celery-task-meta-id-1"
    assert keys.pidbox == b"/4.celery.pidbox"


def test_a_namespace_is_in_front_of_everything() -> None:
    plain, named = Keys("", 4), Keys("shop:", 4)
    fixed = [name for name in Keys.__slots__ if name not in ("db", "prefix") and not name.startswith("_")]

    assert len(fixed) > 5
    assert [getattr(named, name) for name in fixed] == [b"shop:" + getattr(plain, name) for name in fixed]
    for make in ("delayed", "delayed_messages", "dedup", "known", "link", "binding", "result"):
        assert getattr(named, make)("x") == b"shop:" + getattr(plain, make)("x")
    assert named.list("q", 3) == b"shop:q\x06\x163"


def test_our_own_names_cannot_be_taken_for_celerys() -> None:
    keys = Keys("p:", 0)
    ours = [
        keys.leases,
        keys.deliveries,
        keys.letters,
        keys.letter_names,
        keys.row("z/id/a"),
        keys.rows("z/"),
        keys.queues,
    ]

    assert all(name.startswith(b"p:tranship:") for name in [*ours, keys.delayed("q"), keys.dedup("k"), keys.known("i")])
    assert keys.channel("z") == b"p:/0.tranship.z"
    assert keys.rows("r/") is None, "nobody lists results"


def test_a_channel_names_its_signal() -> None:
    keys = Keys("p:", 0)

    assert keys.row("r/id-1") == keys.channel("r/id-1") == keys.result("id-1")
    for name in ("r/id-1", "r/\ud800", "z", PIDBOX):
        assert keys.name(keys.channel(name)) == name
    for channel in (b"p:/1.tranship.z", b"celery-task-meta-id-1", b"p:/0.celery"):
        assert keys.name(channel) is None


def test_steps_of_the_levels() -> None:
    keys = Keys("", 0)
    levels = Levels(keys)

    assert [levels.step(level) for level in Priority] == [0, 3, 6, 9]
    assert [levels.priority(step) for step in range(10)] == [HIGH] * 3 + [NORMAL] * 3 + [LOW] * 3 + [VERY_LOW]
    assert (levels.priority(-1), levels.priority(255)) == (HIGH, VERY_LOW)
    assert levels.key("q", LOW) == b"q\x06\x166"


def test_steps_outside_queues_inside() -> None:
    keys = Keys("", 0)

    assert Levels(keys).lists(iter(["a", "b"])) == [
        (keys.list(queue, step), queue, level)
        for step, level in ((0, HIGH), (3, NORMAL), (6, LOW), (9, VERY_LOW))
        for queue in ("a", "b")
    ]


def test_where_celerys_default_counts_as_normal() -> None:
    levels = Levels(Keys("", 0), 0)

    assert [levels.step(level) for level in Priority] == [0, 0, 6, 9]
    assert [levels.priority(step) for step in (0, 3, 6, 9)] == [NORMAL, NORMAL, LOW, VERY_LOW]
    assert [level for _, _, level in levels.lists(["q"])] == [NORMAL, NORMAL, LOW, VERY_LOW]
