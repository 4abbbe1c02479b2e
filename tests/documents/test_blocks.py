"""The harness that runs the documents' blocks: what it takes out, what it changes, what it leaves."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from documents._blocks import read_blocks, run_block, run_block_here, write_script

DOCUMENT = """
# Title

```bash
pip install other  # no heading
# nor this one
```

## Usage

Text with `code`.

```python
import other.tools as tools
from other import Client
from otherwise import nothing

client = Client("http://there:1")  # other stays in a comment
```

1. In a list:
   ```python
   value = await answer(20) + 1
   ```

### Types

```python
import dataclasses

@dataclasses.dataclass
class Point:
    x: int

def of(point: "Point") -> "Point": ...
```
"""


@pytest.fixture
def blocks(tmp_path):
    path = tmp_path / "a-document.md"
    path.write_text(DOCUMENT)
    return read_blocks(path)


def test_blocks_are_taken_out_in_order_with_their_headings(blocks):
    assert [(one.number, one.heading, one.language) for one in blocks.values()] == [
        (1, "Title", "bash"),
        (2, "Usage", "python"),
        (3, "Usage", "python"),
        (4, "Types", "python"),
    ]
    assert blocks[1].text.startswith("pip install other")
    assert blocks[3].text == "value = await answer(20) + 1\n"
    assert (str(blocks[3]), blocks[3].module) == ("3: Usage", "a_document_3")


def test_imports_are_renamed_and_nothing_else(blocks):
    lines = blocks[2].renamed("other", "ours.compat").text.splitlines()
    assert lines == [
        "import ours.compat.tools as tools",
        "from ours.compat import Client",
        "from otherwise import nothing",
        "",
        'client = Client("http://there:1")  # other stays in a comment',
    ]


def test_settings_are_replaced_where_they_are(blocks):
    assert 'Client("memory://")' in blocks[2].replaced({"http://there:1": "memory://"}).text
    with pytest.raises(AssertionError, match="2: Usage has no 'http://gone'"):
        blocks[2].replaced({"http://gone": "memory://"})


async def answer(half: int) -> int:
    await asyncio.sleep(0)
    return half * 2


def test_a_block_that_awaits_has_a_loop_and_the_names_given(blocks):
    assert run_block(blocks[3], {"answer": answer})["value"] == 41


async def test_a_block_may_use_the_loop_that_runs(blocks):
    assert (await run_block_here(blocks[3], {"answer": answer}))["value"] == 41


def test_a_block_is_a_module_whose_types_are_found(blocks):
    from typing import get_type_hints

    left = run_block(blocks[4])
    assert get_type_hints(left["of"]) == {"point": left["Point"], "return": left["Point"]}
    assert (left["Point"].__module__, left["Point"](1).x) == (blocks[4].module, 1)


def test_a_name_that_is_not_given_is_missing(blocks):
    with pytest.raises(NameError, match="answer"):
        run_block(blocks[3])


def test_a_block_is_written_as_a_script(blocks, tmp_path):
    script = write_script(blocks[4], tmp_path, before="import sys", after="print(__name__, Point(2), sys.argv[1:])")
    done = subprocess.run([sys.executable, script, "a"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "__main__ Point(x=2) ['a']\n"
