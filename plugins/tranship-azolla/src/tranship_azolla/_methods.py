"""Which method carries which messages: the names are those of Azolla's published services."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tranship_azolla import wire_pb2 as wire

__all__ = ["CREATE_TASK", "REPORT_RESULT", "STREAM", "WAIT_FOR_TASK", "Method"]


class Method(NamedTuple):
    """One method of a service."""

    path: str
    request: Any
    """The class of what is sent."""
    response: Any
    """The class of what is answered."""


CREATE_TASK: Final = Method(
    "/azolla.orchestrator.ClientService/CreateTask", wire.CreateTaskRequest, wire.CreateTaskResponse
)
WAIT_FOR_TASK: Final = Method(
    "/azolla.orchestrator.ClientService/WaitForTask", wire.WaitForTaskRequest, wire.WaitForTaskResponse
)
STREAM: Final = Method("/azolla.orchestrator.ClusterService/Stream", wire.ClientMsg, wire.ServerMsg)
"""Both ways at once, between a shepherd and its orchestrator."""
REPORT_RESULT: Final = Method(
    "/azolla.shepherd.Worker/ReportResult", wire.ReportResultRequest, wire.ReportResultResponse
)
