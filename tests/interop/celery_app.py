"""The Celery application of these tests. Workers and clients load it, each in a process of its own.

Where and how comes as JSON in ``INTEROP_CELERY``: configuration keys of Celery. Its tasks have namesakes in
``tranship_app``, which do the same.
"""

from __future__ import annotations

import json
import os
import time

from celery import Celery, Task
from celery.exceptions import Reject

from interop.celery_config import CONFIG
from interop.problems import OutOfPaper, Printer, Refused
from interop.runs import note

app = Celery("interop")
app.conf.update(
    accept_content=["json", "msgpack"],
    result_accept_content=["json", "msgpack"],
    task_default_queue="interop",
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    # Ours are not the only handlers of a process: leave its logging alone.
    worker_redirect_stdouts=False,
)
app.conf.update(json.loads(os.environ[CONFIG]))


@app.task(name="interop.add")
def add(a, b):
    return a + b


@app.task(name="interop.fail")
def fail(text):
    raise OutOfPaper(text)


@app.task(name="interop.refuse")
def refuse(how):
    if how == "two":
        raise Refused("user", 7)
    if how == "key":
        raise KeyError("user", 7)
    if how == "nested":
        raise Printer.Jam("tray", 2)
    if how == "odd":
        raise ValueError({1}, None)
    if how == "reject":
        raise Reject("tray 2", requeue=False)
    raise Refused("user", 7) from OutOfPaper("tray 2")


@app.task(name="interop.doomed", bind=True, max_retries=1)
def doomed(self: Task):
    raise self.retry(countdown=0, exc=Refused("user", self.request.retries))


@app.task(name="interop.flaky", bind=True, max_retries=5)
def flaky(self: Task, failures):
    """Fail as often as asked, and say in which attempt it went well."""
    note(self.request.id, "celery", self.request.retries)
    if self.request.retries < failures:
        raise self.retry(countdown=0.05, exc=OutOfPaper("again"))
    return self.request.retries


@app.task(name="interop.stubborn")
def stubborn():
    """For clients to send: it runs on tranship workers."""
    raise NotImplementedError


@app.task(name="interop.unheard")
def unheard():
    """For clients to send: it runs on tranship workers."""
    raise NotImplementedError


@app.task(name="interop.slow", bind=True)
def slow(self: Task, seconds):
    note(self.request.id, "celery", "slow")
    time.sleep(seconds)
    return "slept"


# Without Celery's own check of the arguments, so that wrong ones get to the worker.
@app.task(name="interop.echo", typing=False)
def echo(value):
    return value


@app.task(name="interop.count", bind=True)
def count(self: Task, number, seconds=0.0):
    """Leave a line in the run log, and take a moment."""
    note(self.request.id, "celery", number)
    time.sleep(seconds)
    return number


@app.task(name="interop.seen", bind=True)
def seen(self: Task):
    """What the message said, as the handler sees it."""
    request = self.request
    return {
        "timelimit": list(request.timelimit),
        "retries": request.retries,
        "origin": request.origin,
        "root_id": request.root_id,
        "ignore_result": request.ignore_result,
        "colour": request.get("colour"),
    }


@app.task(name="interop.total")
def total(values):
    return sum(values)


@app.task(name="interop.whence", bind=True)
def whence(self: Task):
    """Where in a workflow it is."""
    request = self.request
    return {
        "id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group": request.group,
        "stamps": request.stamps or {},
    }


@app.task(name="interop.travelled", bind=True)
def travelled(self: Task, _before=None):
    """How it was sent."""
    request = self.request
    return {
        "step": max(one for one in (0, 3, 6, 9) if one <= request.delivery_info["priority"]),
        "expires": request.expires is not None,
        "time_limit": request.timelimit[0],
        "colour": (request.headers or {}).get("colour"),
        "eta": request.eta is not None,
        "stored": not request.ignore_result,
    }


@app.task(name="interop.by_id")
def by_id(task_id, *, mark=""):
    """An errback of the old kind."""
    note(mark, "celery", "by_id")


@app.task(name="interop.by_error")
def by_error(request, error, traceback, *, mark=""):
    """One of the new kind."""
    note(mark, "celery", f"by_error-{request.task}-{type(error).__name__}-{error.args[0].replace(' ', '_')}")


@app.task(name="interop.elsewhere")
def elsewhere():
    """Only Celery workers have this one."""
    return "celery"
