"""What type checkers make of tasks. Read by mypy and pyright, never run.

A line that ends with ``# error`` has to be refused by both; no other line may be.
"""
# pyright: strict

from typing import Annotated, Any, assert_type

from tranship.retry import RetryPolicy
from tranship.task import AsyncTask, BatchCall, Depends, SyncTask, Task, TaskCall, named, task


@task
async def resize(uri: str, width: int = 640, *, mode: str = "fit") -> bytes:
    return f"{uri}{width}{mode}".encode()


@task(name="shop.add", queue="math", priority="high", retry=RetryPolicy(max_attempts=5), run_timeout=30)
def add(a: int, b: int) -> int:
    return a + b


@task(queue="gpu")
async def train(epochs: int) -> None: ...


# What they are.
assert_type(resize.options(priority="high").call("a", width=3), TaskCall[bytes])
assert_type(add.call(1, b=2), TaskCall[int])
assert_type(train.call(1), TaskCall[None])
plain: Task[[int, int], int] = add
resizer: AsyncTask[..., bytes] = resize.options(deadline_in=30)
adder: SyncTask[[int, int], int] = add.options(queue="other")


# They are callable as their functions are.
async def direct() -> None:
    assert_type(await resize("a", 1, mode="cut"), bytes)
    assert_type(add(1, 2), int)
    assert_type(await train(3), None)


add("1", 2)  # error
resize(1)  # error

# Arguments are the function's own, after .options too.
resize.call()  # error
resize.call(1)  # error
resize.call("a", "b")  # error
resize.call("a", 1, "cut")  # error
resize.call("a", size=1)  # error
resize.options(queue="q").call(1)  # error
add.call(1)  # error
wrong: TaskCall[str] = add.call(1, 2)  # error
other: Task[[str], int] = add  # error

# Options are typed.
add.options(priority="urgent")  # error
add.options(priorty="high")  # error
add.options(retry=3)  # error
add.options(serializer=3)  # error
task(queue=3)  # error
named("x", delay="soon")  # error

# A task elsewhere takes anything.
assert_type(named("shop.ship", queue="q").call(1, x=2), TaskCall[Any])


class Thing:
    def __call__(self, a: int) -> str:
        return str(a)


class AsyncThing:
    async def __call__(self, a: int) -> str:
        return str(a)


# Objects that can be called are typed like functions.
assert_type(task(name="thing")(Thing()).call(1), TaskCall[str])
assert_type(task(name="thing")(AsyncThing()).call(1), TaskCall[str])
task(name="thing")(Thing()).call("a")  # error


# A batch is submitted one by one.
@task(batch=100, within=0.05)
async def lengths(words: list[str]) -> list[int]:
    return [len(word) for word in words]


@task(batch=100)
def stored(calls: list[BatchCall[int]], db: Annotated[str, Depends(str)]) -> None: ...


assert_type(lengths.call("a"), TaskCall[int])
assert_type(stored.call(1), TaskCall[None])
lengths.call(1)  # error
lengths.call(["a"])  # error
stored.call("a")  # error
task(batch="many")  # error
