"""What type checkers make of workflows. Read by mypy and pyright, never run.

A line that ends with ``# error`` has to be refused by both; no other line may be.
"""
# pyright: strict

from typing import Any, assert_type

from tranship import (
    AsyncClient,
    AsyncWorkflowHandle,
    Client,
    Step,
    TaskState,
    Workflow,
    WorkflowHandle,
    WorkflowResult,
    gather,
    named,
    task,
)


@task
async def resize(uri: str, width: int = 640) -> bytes:
    return f"{uri}{width}".encode()


@task
def notify(picture: bytes, channel: str) -> bool:
    return bool(picture and channel)


@task
def collect(pictures: list[bytes]) -> int:
    return len(pictures)


@task
def tidy() -> None: ...


@task
def alert(task_id: str, who: str) -> None: ...


# One after the other.
first = resize.call("a")
assert_type(first.then(notify, "ops"), Workflow[bool])
assert_type(first.then(notify, channel="ops"), Workflow[bool])
assert_type(first.then(notify.step("ops")), Workflow[bool])
assert_type(first.then(tidy.call()), Workflow[None])
assert_type(first.then("shop.pack", 3), Workflow[Any])
assert_type(first.then(named("shop.pack").step(3)), Workflow[Any])
assert_type(first.then(notify.options(queue="q"), "ops"), Workflow[bool])
assert_type(notify.step("ops"), Step[bytes, bool])
assert_type(first.then(resize.call("b").then(notify, "ops")), Workflow[bool])
first.then(collect)  # error
first.then(notify)  # error
first.then(notify, 3)  # error
first.then(notify.step(3))  # error
first.then(collect.step())  # error
first.then(tidy)  # error
first.then(7)  # error

# Side by side.
several = gather(resize.call("a", width) for width in range(3))
assert_type(several, Workflow[list[bytes]])
assert_type(several.then(collect), Workflow[int])
assert_type(gather([resize.call("a").then(notify, "ops")]), Workflow[list[bool]])
assert_type(gather([notify.step("a"), notify.step("b")]), Step[bytes, list[bool]])
assert_type(first.then(gather([notify.step("a"), notify.step("b")])), Workflow[list[bool]])
assert_type(gather([several, several]), Workflow[list[list[bytes]]])
assert_type(gather([resize.call("a"), resize.call("b").then(resize.call("c"))]), Workflow[list[bytes]])
assert_type(gather([notify.call(b"", "a"), notify.step("b")]), Step[Any, list[bool]])
several.then(notify, "ops")  # error
gather(7)  # error

# What is said of them.
assert_type(several.then(collect).on_error(alert, "ops"), Workflow[int])
assert_type(several.options(cancel_key="k", deadline_in=3, priority="high"), Workflow[list[bytes]])
assert_type(notify.step("a").on_error("alert"), Step[bytes, bool])
several.on_error(collect)  # error
several.on_error(alert)  # error
several.options(task_id="mine")  # error
several.options(priority="urgent")  # error

# Submitted.
client = Client("memory://")
handle = client.submit(several.then(collect))
assert_type(handle, WorkflowHandle[int])
assert_type(handle.result(timeout=3), int)
assert_type(handle.info(), WorkflowResult[int])
assert_type(handle.info().steps[0].state, TaskState)
assert_type(handle.children[0].result(), Any)
assert_type(client.submit(several).result(), list[bytes])
client.submit(several, 1)  # error
client.submit(notify.step("ops"))  # error
client.submit_many([several])  # error


async def ask() -> None:
    async with AsyncClient("memory://") as client:
        handle = await client.submit(several.then(collect))
        assert_type(handle, AsyncWorkflowHandle[int])
        assert_type(await handle.result(), int)
        assert_type(await handle.info(), WorkflowResult[int])
        text: str = await handle.result()  # error
        print(text)
