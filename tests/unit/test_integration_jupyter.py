"""Tasks are watched in a notebook: in a real kernel, as a user's cells do it."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tranship import AsyncClient, Client, named, task
from tranship.errors import InvalidOptionError
from tranship.integrations.jupyter import watch

pytestmark = pytest.mark.xdist_group("notebook")  # one kernel for all of them

SETUP = """
from tranship import AsyncClient, Client, Worker, current, gather, task
from tranship.integrations.jupyter import watch
from tranship.testing.background import BackgroundWorker
import threading

go = threading.Event()

@task
def resize(photo: str) -> str:
    if not photo:
        raise ValueError("<script>alert(1)</script>")
    current().progress(0.25, 1, "reading")
    assert go.wait(30)
    return f"{photo}.png"

@task
def album(photos: list[str]) -> int:
    return len(photos)

blocking, client = Client(URL), AsyncClient(URL)
worker = BackgroundWorker(Worker(URL, tasks=[resize, album])).start()

async def seen_running(*handles):
    while not all([(await handle.info()).progress for handle in handles]):
        pass
"""
CELLS = {
    "awaited": """
import asyncio
handles = await client.submit_many(map(resize.call, ["cat", "dog", ""]))
watching = asyncio.create_task(watch(handles, timeout=30))
await seen_running(*handles[:2])
while "25%" not in str(SHOWN): await asyncio.sleep(0.01)
go.set()
results = await watching
""",
    "results": "[(result.state.value, result.value) for result in results]",
    "one": "(await watch(await client.submit(resize, 'owl'), timeout=30)).value",
    "workflow": "await watch(await client.submit(gather(map(resize.call, 'ab')).then(album)), timeout=30)",
    "blocking": "[result.value for result in watch(blocking.submit_many(map(resize.call, 'xyz')), timeout=30)]",
    "many": "len(await watch(await client.submit_many(map(resize.call, map(str, range(30)))), timeout=30))",
    "left": """
go.clear()
late = await watch(await client.submit(resize, "late"), timeout=0.1)
late.error.code
""",
    "end": "go.set(); worker.stop(); await client.aclose(); blocking.close()",
}
# What is shown goes out of the kernel as ever, and is kept for the first cell, which waits until it has been shown.
KEEP = """
from tranship.integrations import jupyter
SHOWN = []
bundle = jupyter._View._bundle
jupyter._View._bundle = lambda view: SHOWN.append(bundle(view)) or SHOWN[-1]
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('notebook')}/tasks.db"
    sources = [f"URL = {url!r}\n{SETUP}{KEEP}", *CELLS.values()]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONWARNINGS", raising=False)
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    nbformat.validate(notebook)
    return {
        name: [one for one in cell.outputs if one.output_type != "stream"]
        for name, cell in zip(CELLS, notebook.cells[1:], strict=True)
    }


def shown(outputs, name):
    return "\n".join(one.data["text/html"] for one in outputs[name] if "text/html" in one.data)


def returned(outputs, name):
    return [one.data["text/plain"] for one in outputs[name] if one.output_type == "execute_result"]


def test_a_cell_awaits_and_sees_what_became_of_each(outputs):
    (display,) = outputs["awaited"]
    html = display.data["text/html"]
    assert "3 of 3 ended (2 SUCCESS, 1 FAILURE)" in html
    assert html.count("<b>SUCCESS</b>") == 2
    assert "&#x27;cat.png&#x27;" in html
    assert "2 SUCCESS, 1 FAILURE" in display.data["text/plain"]
    assert returned(outputs, "results") == ["[('SUCCESS', 'cat.png'), ('SUCCESS', 'dog.png'), ('FAILURE', None)]"]


def test_what_strangers_write_is_text(outputs):
    html = shown(outputs, "awaited")
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_one_handle_has_one_result(outputs):
    assert returned(outputs, "one") == ["'owl.png'"]


def test_a_workflow_is_shown_with_its_steps(outputs):
    html = shown(outputs, "workflow")
    assert re.findall(r"\u2514 \w+\.(\w+)", html.replace("__main__", "main")) == ["resize", "resize", "album"]
    assert html.count("<b>SUCCESS</b>") == 4


def test_a_blocking_client_is_watched_without_await(outputs):
    assert "3 of 3 ended" in shown(outputs, "blocking")
    assert returned(outputs, "blocking") == ["['x.png', 'y.png', 'z.png']"]


def test_of_many_the_first_are_shown_and_all_are_counted(outputs):
    html = shown(outputs, "many")
    assert "30 of 30 ended (30 SUCCESS)" in html
    assert html.count("<tr>") == 20
    assert "... and 10 more" in html
    assert returned(outputs, "many") == ["30"]


def test_watching_ends_with_its_timeout_and_the_task_goes_on(outputs):
    assert "0 of 1 ended" in shown(outputs, "left")
    assert "no longer watched" in shown(outputs, "left")
    assert returned(outputs, "left") == ["'RESULT_TIMEOUT'"]


@task
def shorten(text: str) -> str:
    return text[:3]


async def test_without_a_kernel_the_end_is_printed(tranship_url, tranship_worker, capsys):
    tranship_worker(shorten)
    async with AsyncClient(tranship_url) as client:
        await watch(await client.submit(shorten, "lighthouse"), timeout=5)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 of 1 ended (1 SUCCESS)")
    assert re.fullmatch(r"\S+\.shorten \.\.\.\w{8} SUCCESS 'lig'", second)


async def test_what_is_no_handle_is_told(tranship_url, tranship_client):
    async with AsyncClient(tranship_url) as client:
        forgotten = client.submit(shorten, "lighthouse")
        for wrong in (forgotten, [forgotten]):
            with pytest.raises(InvalidOptionError, match="`await` it first"):
                watch(wrong)
        await forgotten
        other = Client(tranship_url)
        for wrong, says in [
            ("0123", r"what submit and submit_many return, or client.handle\(id\)"),
            ([], "at least one handle"),
            ([named("x")], "one of the handles is"),
            ([tranship_client.handle("1"), other.handle("2")], "all from one client"),
        ]:
            with pytest.raises(InvalidOptionError, match=says):
                watch(wrong)
        other.close()
