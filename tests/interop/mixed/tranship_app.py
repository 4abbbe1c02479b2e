"""The fleet's tranship workers: ``tranship worker interop.mixed.tranship_app``. The tasks are those of Celery."""

from __future__ import annotations

import time

from interop.mixed import plan
from interop.mixed.log import noted
from tranship import current, task


@task(name="mixed.step", queue=plan.queue("steps"))
def step(value: int, place: int) -> int:
    with noted(current().id):
        time.sleep(plan.pause(value, place))
    return plan.step(value, place)


@task(name="mixed.collect", queue=plan.queue("bodies"))
def collect(values: list[int]) -> list[int]:
    with noted(current().id):
        return values
