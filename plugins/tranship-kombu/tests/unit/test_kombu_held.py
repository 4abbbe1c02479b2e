"""What a worker holds: what is not due, what it loses, what kombu cannot read."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tranship.envelope import Envelope, new_id
from tranship.ports import Backend, Settlement, Verdict
from tranship.protocol import Encoder
from tranship.registry import Registry
from tranship.testing.context import ids_of

ENCODER = Encoder()


@pytest.fixture(params=["memory", "filesystem", "sqla"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "memory": f"kombu+memory://?namespace={tmp_path.name}",
        "filesystem": f"kombu+filesystem://{tmp_path}/spool",
        "sqla": f"kombu+sqla+sqlite:///{tmp_path}/queues.db",
    }[request.param]


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    backend = Registry().create(url)
    await backend.open()
    yield backend
    await backend.aclose()


async def submit(backend: Backend, **fields: object) -> str:
    envelope = Envelope(**{"id": new_id(), "task": "t", "queue": "q", **fields})
    await backend.submitter().submit([ENCODER.encode(envelope)])
    return envelope.id


async def test_what_is_not_due_is_given_back_at_the_end(url: str, backend: Backend) -> None:
    due = time.time() + 1.0
    soon = await submit(backend, not_before=due)
    first = Registry().create(url)
    await first.open()
    assert not (await first.consumer(["q"]).receive(1, 0.2)).deliveries
    await first.aclose()
    received = await backend.consumer(["q"]).receive(1, 20.0)
    assert ids_of(received.deliveries) == [soon]
    assert time.time() >= due - 0.05


async def test_what_is_not_due_is_nobody_elses_meanwhile(url: str, backend: Backend) -> None:
    soon, now = await submit(backend, not_before=time.time() + 1.0), await submit(backend)
    consumer = backend.consumer(["q"])
    (first,) = (await consumer.receive(5, 20.0)).deliveries
    other = Registry().create(url)
    await other.open()
    rival = other.consumer(["q"])
    assert not (await rival.receive(1, 0.2)).deliveries
    (second,) = (await consumer.receive(5, 20.0)).deliveries
    assert ids_of([first, second]) == [now, soon]
    await consumer.settle([Settlement(one, Verdict.ACK) for one in (first, second)])
    await other.aclose()


async def test_a_peers_countdown_is_waited_for(backend: Backend, url: str) -> None:
    """Celery's own message, with nothing of ours in it."""
    import kombu

    from tranship.settings import BrokerURL
    from tranship_kombu._options import read_options
    from tranship_kombu._place import Place

    parsed = BrokerURL.parse(url)
    place = Place.of(parsed, *read_options(parsed))
    queue = f"{place.options.namespace}.q" if place.options.namespace else "q"
    due = time.time() + 0.8
    eta = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f"{due % 1:.6f}"[1:]
    await backend.ensure(["q"])
    with kombu.Connection(place.kombu_url, transport_options=place.transport_options) as peer:
        kombu.Producer(peer).publish(
            [[], {}, {}],
            routing_key=queue,
            exchange="",
            serializer="json",
            headers={"id": "peers-1", "task": "t", "eta": eta},
            correlation_id="peers-1",
        )
    (delivery,) = (await backend.consumer(["q"]).receive(1, 20.0)).deliveries
    assert ids_of([delivery]) == ["peers-1"]
    assert time.time() >= due
    await backend.consumer(["q"]).settle([Settlement(delivery, Verdict.ACK)])


async def test_rows_that_are_done_are_gone(tmp_path: Path) -> None:
    backend = Registry().create(f"kombu+sqla+sqlite:///{tmp_path}/queues.db")
    await backend.open()
    await submit(backend)
    consumer = backend.consumer(["q"])
    (delivery,) = (await consumer.receive(1, 20.0)).deliveries
    await consumer.settle([Settlement(delivery, Verdict.ACK)])
    await backend.aclose()
    engine = create_engine(f"sqlite:///{tmp_path}/queues.db")
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from kombu_message")).scalar() == 0
    engine.dispose()


async def test_a_file_that_is_no_message_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = tmp_path / "spool"
    backend = Registry().create(f"kombu+filesystem://{spool}")
    await backend.open()
    (spool / "1_a.q.msg").write_text("{not json")
    (spool / "1_b.q.msg").write_text(json.dumps({"body": "x"}))
    good = await submit(backend)
    (delivery,) = (await backend.consumer(["q"]).receive(5, 20.0)).deliveries
    assert ids_of([delivery]) == [good]
    assert sorted(one.name for one in (spool / "held").glob("*.unreadable")) == [
        "1_a.q.msg.unreadable",
        "1_b.q.msg.unreadable",
    ]
    assert "holds no message" in caplog.text
    await backend.aclose()


async def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    backend = Registry().create(f"kombu+filesystem://{spool}")
    await backend.open()
    (spool / "1_a.q.msg").touch()
    assert not (await backend.consumer(["q"]).receive(1, 0.2)).deliveries
    assert (spool / "1_a.q.msg").exists()
    await backend.aclose()
