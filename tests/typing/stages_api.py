"""What type checkers make of plans. Read by mypy and pyright, never run.

A line that ends with ``# error`` has to be refused by both; no other line may be.
"""
# pyright: strict

from dataclasses import dataclass
from typing import assert_type

from tranship.compat import sdax
from tranship.stages import AsyncTask, AsyncTaskProcessor, AsyncTaskProcessorBuilder, TaskFunction


@dataclass
class Request:
    user: int


class AdminRequest(Request):
    pass


async def load(ctx: Request) -> str:
    return str(ctx.user)


def audit(ctx: Request) -> None: ...


async def admin_only(ctx: AdminRequest) -> None: ...


async def of_text(ctx: str) -> None: ...


# A context has a type, and every function must take it.
builder = AsyncTaskProcessor[Request].builder()
assert_type(builder, AsyncTaskProcessorBuilder[Request])
builder.add_task(AsyncTask("load", pre_execute=TaskFunction(load), post_execute=TaskFunction(audit)), level=1)
builder.add_task(AsyncTask("audit", execute=TaskFunction(audit, retry_on=(OSError,))), after="load")
builder.add_task(AsyncTask("text", execute=TaskFunction(of_text)))  # error
builder.add_task(AsyncTask("admin", execute=TaskFunction(admin_only)))  # error
builder.add_task(AsyncTask("load", pre_execute=TaskFunction(load)), after=1)  # error
processor = builder.build()
assert_type(processor, AsyncTaskProcessor[Request])

# A function for a base class serves a derived one.
AsyncTaskProcessor[AdminRequest].builder().add_task(AsyncTask("load", TaskFunction(load), TaskFunction(admin_only)))


async def run() -> None:
    await processor.process_tasks(Request(1))
    await processor.process_tasks(AdminRequest(1))
    await processor.process_tasks("text")  # error
    TaskFunction(load, 5.0, 2, 1.0, 2.0).timeout = 3  # error


# The names of sdax are the same things.
assert_type(sdax.AsyncTaskProcessor[str].builder().build(), AsyncTaskProcessor[str])
