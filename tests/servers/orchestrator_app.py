"""A real Avtomatika orchestrator with its memory storage, and jobs that do what they are told: ``orchestrator_app.py``.

Everything else is said by its own environment variables.
"""

from __future__ import annotations

from avtomatika.config import Config
from avtomatika.storage import MemoryStorage

from avtomatika import Blueprint, OrchestratorEngine

flow = Blueprint(name="flow", api_version="v1", api_endpoint="/jobs/flow")


@flow.handler(is_start=True)
async def start(initial_data, actions):
    """Have one task done, and end as its status says."""
    actions.dispatch_task(
        task_type=initial_data["skill"],
        params=initial_data.get("params", {}),
        transitions={"success": "finished", "needs_review": "reviewed", "failure": "broken"},
        timeout_seconds=initial_data.get("seconds"),
    )


@flow.handler(is_end=True)
async def finished(state_history):
    """The task went well."""
    state_history["finished"] = dict(state_history)


@flow.handler
async def reviewed(state_history, actions):
    """The task has a status of its own."""
    state_history["reviewed"] = True
    actions.go_to("finished")


@flow.handler(is_end=True)
async def broken():
    """It did not."""


both = Blueprint(name="both", api_version="v1", api_endpoint="/jobs/both")


@both.handler(is_start=True)
async def split(initial_data, actions):
    """Have several tasks done at once."""
    actions.dispatch_parallel(initial_data["tasks"], aggregate_into="collected")


@both.aggregator
async def collected(aggregation_results, state_history, actions):
    """Keep what all of them have returned."""
    state_history["all"] = sorted(one["data"]["result"] for one in aggregation_results.values())
    actions.go_to("finished")


@both.handler("finished", is_end=True)
async def all_finished(state_history):
    """All of them are done."""
    state_history["finished"] = state_history["all"]


if __name__ == "__main__":
    engine = OrchestratorEngine(MemoryStorage(), Config())
    engine.register_blueprint(flow)
    engine.register_blueprint(both)
    engine.run()
