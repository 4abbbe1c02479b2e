"""Every Python block of the document runs, with only imports and the broker changed, and does what the prose says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from avtomatika_kit import answer, ask, until

from documents._blocks import read_blocks, run_block, write_script
from tranship import Client, FixedBackoff, RetryPolicy
from tranship.compat.avtomatika import Worker
from tranship.operations import Operator
from tranship.testing.background import BackgroundWorker

DOCUMENT = Path(__file__).parent / "document.md"
BLOCKS = {
    number: block.renamed("avtomatika_worker", "tranship.compat.avtomatika")
    for number, block in read_blocks(DOCUMENT).items()
}
QUICK_START, CONCURRENCY, SUCCESS, CUSTOM, TRANSIENT, PERMANENT, SKILLS = 2, 3, 4, 5, 6, 7, 9
CONFIG, HEARTBEAT = 8, 10
NOT_RUN = {
    1: "installs the package that ours takes the place of: pip install tranship",
    11: "installs what that package's own tests need",
}


def test_every_block_is_run_or_says_why_not():
    run = {QUICK_START, CONCURRENCY, SUCCESS, CUSTOM, TRANSIENT, PERMANENT, SKILLS, CONFIG, HEARTBEAT}
    assert run | set(NOT_RUN) == set(BLOCKS)
    assert {number for number, one in BLOCKS.items() if one.language == "python"} <= run
    assert all("pip install" in BLOCKS[number].text for number in NOT_RUN)


def handler_of(number):
    """The block is the end of a handler: it is put into one."""
    block = BLOCKS[number]
    text = f"async def handler(params: dict, **kwargs):\n{textwrap.indent(block.text, '    ')}"
    return run_block(replace(block, text=text))["handler"]


def served(name, handler):
    worker = Worker()
    worker.task(name)(handler)
    return BackgroundWorker(worker.worker())


# Quick start.


def test_quick_start_resizes_an_image(client, capsys):
    worker = run_block(BLOCKS[QUICK_START])["worker"]
    with BackgroundWorker(worker.worker()):
        result = answer(client, "resize_image", {"filename": "a.png"}, headers={"job_id": "job-7"})
    assert (result.success, result.status) == (True, "success")
    assert result.value == {"resized_path": "/path/to/resized_a.png"}
    assert capsys.readouterr().out.splitlines() == [
        f"Task {result.id} (Job: job-7): resizing image...",
        "Parameters: {'filename': 'a.png'}",
    ]


def test_quick_start_runs_as_a_script_that_answers_health_checks(tmp_path):
    script = write_script(BLOCKS[QUICK_START], tmp_path)
    url = f"sqlite:///{tmp_path}/jobs.db"
    environ = {**os.environ, "ORCHESTRATOR_URL": url, "WORKER_ID": "resizer-1", "WORKER_PORT": "0"}
    with subprocess.Popen([sys.executable, script], env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            health = next(found[1] for line in lines if (found := re.search(r"answered on (http\S+)", line)))
            assert any("worker resizer-1 consumes resize_image" in line for line in lines)
            with urllib.request.urlopen(f"{health}/health", timeout=10) as response:
                assert response.status == 200
            with Client(url) as client:
                assert answer(client, "resize_image", {"filename": "b.png"}).value == {
                    "resized_path": "/path/to/resized_b.png"
                }
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


# Concurrency.


def test_types_and_the_whole_are_limited(client):
    worker = run_block(BLOCKS[CONCURRENCY])["worker"].worker()
    assert (worker.settings.max_concurrent_tasks, worker.task_type_limits) == (
        10,
        {"video_processing": 1, "audio_processing": 4},
    )
    with BackgroundWorker(worker):
        video = [ask(client, "upscale_video", {}), ask(client, "blur_video_faces", {})]
        audio = [ask(client, "transcribe_audio", {}) for _ in range(5)]
        report = ask(client, "generate_report", {})
        until(lambda: len(worker.status().running) >= 6)
        # One video, four transcriptions, the report: what is full is told, and the rest waits at the broker.
        assert worker.status().capacity == {"video_processing": 0, "audio_processing": 0}
        assert report.wait(timeout=20).status == "success"
        assert len(worker.status().running) == 5
        assert [one.wait(timeout=20).status for one in audio] == ["success"] * 5
        assert not all(one.ready() for one in video)
        assert sum(one.id in worker.status().running for one in video) <= 1
        worker.stop(hurry=True)


# Results.


def test_success(client):
    with served("work", handler_of(SUCCESS)):
        result = answer(client, "work", {})
    assert (result.status, result.value) == ("success", {"output": "some_value"})


def test_a_custom_status(client):
    with served("work", handler_of(CUSTOM)):
        result = answer(client, "work", {})
    assert (result.success, result.status, result.value) == (
        True,
        "needs_manual_review",
        {"reason": "Low confidence score"},
    )


@pytest.mark.parametrize("kind", ["redis", "rabbitmq", "nats"])
def test_statuses_are_read_from_every_broker(kind, tranship_service, monkeypatch):
    pytest.importorskip(f"tranship_{kind}")
    url = tranship_service(kind).url
    monkeypatch.setenv("ORCHESTRATOR_URL", url)
    monkeypatch.setenv("TRANSHIP_NAMESPACE", "avtomatika")
    worker = Worker(task_type_limits={"review": 1})
    worker.task("work", task_type="review")(handler_of(CUSTOM))
    worker.task("fail")(handler_of(PERMANENT))
    with Client(url) as client, BackgroundWorker(worker.worker()):
        result = answer(client, "work", {})
        assert (result.status, result.value) == ("needs_manual_review", {"reason": "Low confidence score"})
        assert answer(client, "fail", {}).error.code == "PERMANENT_ERROR"


def test_a_transient_error_is_tried_again(client):
    twice = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))
    with served("work", handler_of(TRANSIENT)):
        result = answer(client, "work", {}, retry=twice)
    assert (result.error.code, result.error.message, result.attempt) == (
        "TRANSIENT_ERROR",
        "External API timeout",
        1,
    )
    assert result.state == "DEAD_LETTERED"


def test_a_permanent_error_is_not(client):
    twice = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))
    with served("work", handler_of(PERMANENT)):
        result = answer(client, "work", {}, retry=twice)
    assert (result.error.code, result.error.message, result.attempt) == ("PERMANENT_ERROR", "Corrupted input file", 0)
    assert result.state == "FAILURE"


# Skills.


def test_heartbeats_tell_which_skills_are_hot(url, client):
    left = run_block(BLOCKS[SKILLS], {"Worker": Worker})
    steps = [threading.Event(), threading.Event()]

    @left["worker"].task("image_generation")
    def generate(params, add_to_hot_cache, **kwargs):
        for step, model in zip(steps, ["stable_diffusion_v1.5", "vae-ft-mse"], strict=True):
            assert step.wait(20)
            add_to_hot_cache(model)

    promised = json.loads(BLOCKS[HEARTBEAT].text)
    with Operator(url) as operator, BackgroundWorker(left["worker"].worker()):

        def beat(models):
            beats = [one for one in operator.workers() if len(one.hot_cache) == models]
            return beats and beats[0]

        first = until(lambda: beat(0))
        assert (first.hot_skills, first.skill_dependencies) == ([], promised["skill_dependencies"])
        assert first.labels == {"worker_type": "ai-processor"}
        handle = ask(client, "image_generation", {})
        steps[0].set()
        assert until(lambda: beat(1)).hot_skills == []
        steps[1].set()
        last = until(lambda: beat(2))
        assert {"hot_skills": last.hot_skills, "skill_dependencies": last.skill_dependencies} == promised
        assert handle.wait(timeout=20).success


# Several orchestrators.


def config(*urls):
    """The document's list, with brokers' URLs in it."""
    text = BLOCKS[CONFIG].text
    for number, url in enumerate(urls, 1):
        text = text.replace(f"http://orchestrator-{number}.my-domain.com:8080", url)
    assert "http://" not in text
    return text


@pytest.mark.parametrize("mode", [None, "FAILOVER", "WATERFALL"])
def test_failover_goes_to_the_next_one(mode, monkeypatch, tmp_path):
    pytest.importorskip("tranship_redis")
    there = f"sqlite:///{tmp_path}/second.db"
    # Nobody listens on the first.
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", config("redis://127.0.0.1:1/0", there))
    if mode:
        monkeypatch.setenv("MULTI_ORCHESTRATOR_MODE", mode)
    with served("work", handler_of(SUCCESS)), Client(there) as client:
        assert answer(client, "work", {}).status == "success"


def test_round_robin_takes_from_each_in_turn(monkeypatch, tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second")]
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", config(*urls))
    monkeypatch.setenv("MULTI_ORCHESTRATOR_MODE", "ROUND_ROBIN")
    with served("work", handler_of(SUCCESS)):
        for url in urls:
            with Client(url) as client:
                assert answer(client, "work", {}).status == "success"
