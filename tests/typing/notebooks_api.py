"""What type checkers make of tasks that are watched in a notebook. Read by mypy and pyright, never run."""
# pyright: strict

from typing import assert_type

from tranship import AsyncClient, Client, TaskResult, task
from tranship.integrations.jupyter import watch


@task
def thumbnail(photo: str) -> str:
    return photo


async def cells(client: AsyncClient, blocking: Client) -> None:
    assert_type(await watch(await client.submit(thumbnail, "a")), TaskResult[str])
    assert_type(await watch(await client.submit_many([thumbnail.call("a")]), timeout=5), list[TaskResult[str]])
    assert_type(watch(blocking.submit(thumbnail, "a")), TaskResult[str])
    assert_type(watch(blocking.submit_many([thumbnail.call("a")])), list[TaskResult[str]])
    watch("0123")  # error
