"""The guide's worker and client do what the guide says, with a real orchestrator in the place of its host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers.orchestrator import CLIENT_TOKEN, WORKER_TOKEN, base, ended, submit_job, until, workers
from tranship.testing.services import Service

GUIDE = Path(__file__).parents[3] / "docs/how-to/avtomatika-orchestrator.md"
BLOCKS = re.findall(r"```(?:python|python title=\"\S+\")\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)

pytestmark = pytest.mark.xdist_group("orchestrator")


def test_the_guide(orchestrator_service: Service, tmp_path: Path) -> None:
    place = base(orchestrator_service).removeprefix("http://")
    worker, client = (
        block.replace("hub:8080", place).replace("worker-token", WORKER_TOKEN).replace("client-token", CLIENT_TOKEN)
        for block in BLOCKS
    )
    (tmp_path / "resizer.py").write_text(worker)
    command = [sys.executable, "-m", "tranship", "worker", "resizer:worker", "--name", "resizer", "--quiet"]
    own = {**os.environ, "TRANSHIP_HEARTBEAT_INTERVAL": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=own) as process:
        try:
            told = until(
                lambda: one if (one := workers(orchestrator_service).get("resizer", {})).get("status") else None
            )
            assert told["worker_type"] == "image-processing"
            good = submit_job(orchestrator_service, "resize_image", {"filename": "a.png", "width": 640})
            bad = submit_job(orchestrator_service, "resize_image", {"filename": "a.gif", "width": 640})
            assert ended(orchestrator_service, good)["result"] == {"path": "/resized/a.png"}
            assert ended(orchestrator_service, bad)["status"] == "quarantined"
            # The client, whose blueprint is ours; blocking, as in the guide.
            script = client.replace(
                'named("my_flow"), {"filename": "a.png", "width": 640}',
                'named("flow"), ' + repr({"skill": "resize_image", "params": {"filename": "b.png", "width": 640}}),
            )
            assert script != client
            printed = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
            )
            assert printed.stdout.strip() == "{'path': '/resized/b.png'}"
        finally:
            process.terminate()
            assert process.wait(60) == 0
