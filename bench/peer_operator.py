"""An operator on plain Celery, and the bare client of it: one LPUSH of many values, one subscription."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import uuid

import msgpack
import redis
from celery import Celery, signals
from celery.worker import state

from address import redis_url
from child import ready, until_told
from sockets import Peak

NAME, VERSION = "video-clipper", "v1"
TASK = f"sandai_operator.{NAME}.{VERSION}.process_task"
QUEUES = [f"{priority}.{NAME}.{VERSION}" for priority in ("high", "normal", "low", "very_low")]
ARTIFACTS = [{"uri": "s3://bucket/in.mp4", "slot": "video"}]


def operate(concurrency: int, seconds: float):
    """Serve until told to stop; each task takes ``seconds``."""
    app = Celery("operator", broker=redis_url(), backend=redis_url())
    app.conf.update(
        accept_content=["json", "msgpack"],
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # our parent reads them
        worker_prefetch_multiplier=1,
    )

    def process_task(**payload):
        time.sleep(seconds)
        return {"status": "success", "artifacts": payload["artifacts"], "results": {}}

    app.task(process_task, name=TASK)
    for queue in QUEUES:
        app.amqp.queues.select_add(queue)
    signals.worker_ready.connect(lambda **_: ready(), weak=False)
    threading.Thread(target=stop_when_told, daemon=True).start()
    app.Worker(
        pool="threads",
        concurrency=concurrency,
        queues=QUEUES,
        loglevel="ERROR",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    ).start()


def stop_when_told() -> None:
    until_told()
    state.should_stop = os.EX_OK


def bare(requests: int):
    """Everything in one command, every result over one subscription."""
    client = redis.Redis.from_url(redis_url())
    with Peak() as peak, client.pubsub(ignore_subscribe_messages=True) as subscription:
        elements = [element(str(uuid.uuid4())) for _ in range(requests)]
        processor, begun = time.process_time(), time.perf_counter()
        subscription.psubscribe("celery-task-meta-*")
        client.lpush(QUEUES[1], *elements)
        left = requests
        while left:
            if (message := subscription.get_message(timeout=30)) is not None:
                left -= json.loads(message["data"])["status"] == "SUCCESS"
        took = time.perf_counter() - begun
        used = time.process_time() - processor
    return {"wall": took, "connections": peak.most, "cpu": used}


def element(task_id: str) -> bytes:
    """What the clients put into the list."""
    payload = {"meta": {"persistent-output": False}, "artifacts": ARTIFACTS, "options": {"clip": 10}}
    body = msgpack.packb([[], {**payload, "deadline": time.time() + 3600}, {}])
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": "application/x-msgpack",
            "headers": {"lang": "py", "task": TASK, "id": task_id, "root_id": task_id, "retries": 0},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUES[1]},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    ).encode()
