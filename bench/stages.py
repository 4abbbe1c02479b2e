"""Where the time of one task goes, by part, without a broker: ``python bench/stages.py``. Best of many; for developing."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tranship.backends.sqlite._claims import CLAIM, Claim
from tranship.backends.sqlite._connection import open_writer
from tranship.backends.sqlite._enqueue import SUBMIT
from tranship.backends.sqlite._outcomes import NewResult
from tranship.backends.sqlite._rows import new_task, raw_message
from tranship.backends.sqlite._schema import create, namespace
from tranship.backends.sqlite._settling import SETTLE, Ending
from tranship.backends.sqlite._transaction import Transaction
from tranship.client import AsyncTaskHandle
from tranship.envelope import Priority, Receipt, TaskResult, TaskState, new_id
from tranship.ports import Verdict
from tranship.protocol import Decoder, Encoder, decode_result, encode_result
from workload import noop

PAYLOAD = "x" * 1220


def best(what, count: int = 2000, repeats: int = 7) -> float:
    """Microseconds per call."""
    least = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(count):
            what()
        least = min(least, time.perf_counter() - begun)
    return least / count * 1e6


def parts() -> dict[str, float]:
    encoder, decoder = Encoder(), Decoder()
    call = noop.call(PAYLOAD)
    envelope = noop.envelope((PAYLOAD,), {}, now=time.time(), reply_to="1234-abcdef")
    message = encoder.encode(envelope)
    raw = raw_message(None, None, envelope.reply_to, message.headers, message.body)
    result = TaskResult(id=envelope.id, state=TaskState.SUCCESS, value=1, finished_at=time.time(), worker="host-1-abc")
    document = encode_result(result)
    print(f"headers {len(message.headers)} bytes, body {len(message.body)}, result {len(document)}")
    return {
        "new_id": best(new_id),
        "task.call (with check)": best(lambda: noop.call(PAYLOAD)),
        "task.envelope": best(lambda: noop.envelope(call.args, call.kwargs, now=1.0, reply_to="1234-abcdef")),
        "encoder.encode": best(lambda: encoder.encode(envelope)),
        "new_task (row)": best(lambda: new_task(message, dedup_window=3600.0)),
        "Receipt + handle": best(lambda: AsyncTaskHandle(None, Receipt(envelope.id).id)),
        "decode": best(lambda: decoder.decode(raw, queue="default", priority=Priority.NORMAL)),
        "encode_result": best(lambda: encode_result(result)),
        "decode_result": best(lambda: decode_result(document, task_id=envelope.id)),
    }


def transactions(size: int) -> dict[str, float]:
    """Microseconds per row of the backend's own statements, without commits to disk."""
    encoder, count = Encoder(), 4000 // size
    with tempfile.TemporaryDirectory() as where:
        connection = open_writer(Path(where, "stages.db"), busy_timeout=1)
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        create(connection, where)
        ns = namespace(connection, "")
        connection.execute("COMMIT")

        def spend(kind, make):
            values, least = [], []
            for number in range(count):
                argument = make(number)
                begun = time.perf_counter()
                connection.execute("BEGIN IMMEDIATE")
                (value,) = kind.run(Transaction(connection, ns), [argument])
                connection.execute("COMMIT")
                least.append(time.perf_counter() - begun)
                values.append(value)
            least.sort()
            return values, least[len(least) // 4] / size * 1e6

        def batch(_number):
            envelopes = [noop.envelope((PAYLOAD,), {}, now=1.0, reply_to=None) for _ in range(size)]
            return [new_task(encoder.encode(one), dedup_window=1.0) for one in envelopes]

        _, submit = spend(SUBMIT, batch)
        claimed, claim = spend(CLAIM, lambda _: Claim(["default"], size, "owner", 30.0, 0.0, due=False))
        ids = [new_id() for _ in range(count * size)]
        endings = [
            [
                Ending((row.seq, row.fence), Verdict.ACK, NewResult(ids.pop(), "SUCCESS", 86400.0, None, b"r" * 300))
                for row in rows
            ]
            for rows in claimed
        ]
        _, settle = spend(SETTLE, lambda number: endings[number])
        connection.close()
    return {f"submit x{size}": submit, f"claim x{size}": claim, f"settle x{size}": settle}


if __name__ == "__main__":
    found = parts()
    for size in (1, 10, 100, 1000):
        found.update(transactions(size))
    print(json.dumps({name: round(value, 2) for name, value in found.items()}, indent=1))
