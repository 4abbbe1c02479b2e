"""A task from its submit to its result: over an orchestrator, a shepherd and its processes, one killed midway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from azolla_server import BOUND, Orchestrator, Shepherd

from documents._blocks import read_blocks, run_block
from tranship import AsyncClient
from tranship.compat import azolla
from tranship.compat.azolla.retry import FixedBackoff, RetryPolicy

ROOT = Path(__file__).parents[3]
TASKS = """
import asyncio
import os
from pathlib import Path

from tranship.compat.azolla import azolla_task


@azolla_task
async def convert(number: int, to: str = "hex") -> dict:
    seen = Path("runs.txt")
    with seen.open("a") as runs:
        print(os.getpid(), file=runs)
    if len(seen.read_text().split()) == 1:
        await asyncio.sleep(600)
    return {"text": f"{number:x}", "to": to}
"""


async def lines(path: Path, count: int) -> list[str]:
    """Return what a file says, once it says so much."""
    async with asyncio.timeout(BOUND):
        while True:
            found = await asyncio.to_thread(lambda: path.read_text().split() if path.exists() else [])
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_process_that_is_killed_midway_is_repeated(
    orchestrator: Orchestrator, shepherd: Callable[..., Shepherd], tmp_path: Path
):
    under = shepherd(TASKS)
    policy = RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01))
    async with await azolla.Client.connect(orchestrator.endpoint) as client:
        handle = await client.submit_task("convert", {"number": 13, "to": "base 16"}).retry_policy(policy).submit()
        await lines(tmp_path / "runs.txt", 1)
        assert await handle.try_result() is None
        under.processes[handle.task_id].kill()
        done = await handle.wait(BOUND)
        assert (done.success, done.value) == (True, {"text": "d", "to": "base 16"}), under.output()
    assert orchestrator.attempts(handle.task_id) == 2
    assert len(set(await lines(tmp_path / "runs.txt", 2))) == 2
    # Whoever has the id alone may wait as well.
    async with AsyncClient(orchestrator.url) as other:
        assert await other.handle(handle.task_id).result(BOUND) == done.value


def test_the_document_s_code_runs_with_its_imports_changed(
    orchestrator: Orchestrator, shepherd: Callable[..., Shepherd], capsys
):
    blocks = read_blocks(ROOT / "tests" / "azolla" / "document.md")
    tasks, submits = (blocks[number].renamed("azolla", "tranship.compat.azolla") for number in (3, 5))
    under = shepherd(tasks.text)
    run_block(submits.replaced({"http://localhost:52710": orchestrator.endpoint}), run_block(tasks))
    assert "Email sent: {'message_id': 'msg_123', 'sent_to': 'user@example.com'" in capsys.readouterr().out, (
        under.output()
    )


def test_the_guide_s_code_runs(
    orchestrator: Orchestrator, shepherd: Callable[..., Shepherd], tmp_path: Path, monkeypatch, capsys
):
    blocks = read_blocks(ROOT / "docs" / "how-to" / "azolla-orchestrator.md").values()
    sends, has = (next(one for one in blocks if word in one.text) for word in ("with Client", "@task(name="))
    under = shepherd(has.text)
    (tmp_path / "shop_tasks.py").write_text(has.text)
    monkeypatch.syspath_prepend(tmp_path)
    run_block(sends.replaced({"azolla://orchestrator:52710": orchestrator.url}))
    assert capsys.readouterr().out == "cat.png is 640 wide\n", under.output()
