"""What type checkers make of clients and handles. Read by mypy and pyright, never run.

A line that ends with ``# error`` has to be refused by both; no other line may be.
"""
# pyright: strict

from dataclasses import dataclass
from typing import Any, assert_type

from tranship import (
    AsyncClient,
    AsyncTaskHandle,
    Client,
    TaskClass,
    TaskHandle,
    TaskResult,
    TaskState,
    Worker,
    named,
    task,
)


@task
async def resize(uri: str, width: int = 640) -> bytes:
    return f"{uri}{width}".encode()


@task(queue="math", priority="high")
def add(a: int, b: int) -> int:
    return a + b


class Resize(TaskClass, queue="media"):
    @dataclass
    class Args:
        uri: str
        width: int = 640

    async def run(self, args: Args) -> bytes:
        return args.uri.encode()


class Add(TaskClass, validation="strict"):
    @dataclass
    class Args:
        a: int
        b: int

    def run(self, args: Args) -> int:
        return args.a + args.b


# The blocking client.
client = Client("memory://")
assert_type(client.submit(resize, "a", width=3), TaskHandle[bytes])
assert_type(client.submit(add, 1, 2), TaskHandle[int])
assert_type(client.submit(add.options(deadline_in=3), 1, b=2).result(timeout=5), int)
assert_type(client.submit(resize, "a").result(), bytes)
assert_type(client.submit(add.call(1, 2)).result(), int)
assert_type(client.submit("elsewhere.task", 1, anything=2), TaskHandle[Any])
assert_type(client.submit(named("elsewhere.task"), 1, anything=2), TaskHandle[Any])
assert_type(client.submit(add, 1, 2).wait(3), TaskResult[int])
assert_type(client.submit(add, 1, 2).wait(3).unwrap(), int)
assert_type(client.submit(add, 1, 2).info(), TaskResult[int])
assert_type(client.submit(add, 1, 2).state(), TaskState)
assert_type(client.submit(add, 1, 2).ready(), bool)
assert_type(client.submit_many(add.call(number, 1) for number in range(3)), list[TaskHandle[int]])
assert_type(client.submit_many([resize.call("a")]), list[TaskHandle[bytes]])
assert_type(client.collect(client.submit_many([add.call(1, 2)]), timeout=3), list[TaskResult[Any]])
assert_type(client.handle("some-id"), TaskHandle[Any])
assert_type(client.handle("some-id", add), TaskHandle[int])
for done in client.as_completed(client.submit_many([add.call(1, 2)])):
    assert_type(done.result(), int)
assert_type(client.submit(Resize, uri="a"), TaskHandle[bytes])
assert_type(client.submit(Add, a=1, b=2), TaskHandle[int])
assert_type(client.submit(Resize.task, Resize.Args("a")), TaskHandle[bytes])
assert_type(client.submit(Add.task.options(priority="high"), Add.Args(1, 2)).result(), int)
with client as opened:
    assert_type(opened, Client)
client.forget([client.submit(add, 1, 2), "some-id"])
assert_type(client.cancel("key"), list[str])
client.cancel(task_id="some-id", ttl=5)

client.submit(Resize.task, "a")  # error
client.submit(Resize.task, Add.Args(1, 2))  # error
client.handle("some-id", "add")  # error
client.submit(add, "1", 2)  # error
client.submit(add, 1)  # error
client.submit(add, 1, 2, 3)  # error
client.submit(resize, uri=1)  # error
client.submit(resize, "a", height=1)  # error
client.submit(add.options(priority="urgent"), 1, 2)  # error
client.submit(add.options(dead_line=3), 1, 2)  # error
client.submit(add.call(1), 2)  # error
client.submit(7)  # error
client.submit_many([add.call("a", 1)])  # error
client.collect(["some-id"])  # error
client.submit(add, 1, 2).result("soon")  # error
text: str = client.submit(add, 1, 2).result()  # error
Client("memory://", timeout=3)  # error


# The asynchronous one.
async def ask() -> None:
    async with AsyncClient("memory://") as client:
        assert_type(await client.submit(resize, "a"), AsyncTaskHandle[bytes])
        assert_type(await (await client.submit(add, 1, b=2)).result(timeout=5), int)
        assert_type(await (await client.submit(resize.call("a"))).result(), bytes)
        assert_type(await client.submit("elsewhere.task", 1), AsyncTaskHandle[Any])
        assert_type(await client.submit_many([add.call(1, 2)]), list[AsyncTaskHandle[int]])
        assert_type(client.handle("some-id"), AsyncTaskHandle[Any])
        assert_type(await client.handle("some-id", add).wait(), TaskResult[int])
        assert_type(await client.submit(Resize, uri="a"), AsyncTaskHandle[bytes])
        assert_type(await client.submit(Add.task, Add.Args(1, 2)), AsyncTaskHandle[int])
        async for done in client.as_completed(await client.submit_many([resize.call("a")])):
            assert_type(await done.result(), bytes)
        await client.submit(add, "1", 2)  # error
        await client.submit(add)  # error
        await client.submit(resize, "a", height=1)  # error
        handle = await client.submit(add, 1, 2)
        text: str = await handle.result()  # error
        print(text)
        await client.collect(["some-id"])  # error


# The worker.
Worker("memory://", tasks=[resize, add, add.options(queue="other"), Resize, Add()], max_concurrent_tasks=3).run()
Worker("memory://", tasks=[max])  # error
Worker("memory://", tasks=[add], max_tasks=3)  # error
Worker("memory://")  # error
