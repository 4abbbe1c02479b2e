"""What is emitted, by name: OpenTelemetry's conventions for messaging, and what only tranship has a word for."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTEMPT",
    "BATCH_COUNT",
    "CONSUMED",
    "DELIVERIES",
    "DESTINATION",
    "ERROR_TYPE",
    "MESSAGE_ID",
    "OPERATION_DURATION",
    "OPERATION_NAME",
    "OPERATION_TYPE",
    "OTHER",
    "OUTCOME",
    "PROCESS_DURATION",
    "SCHEMA_URL",
    "SECONDS",
    "SENT",
    "SYSTEM",
    "TASK",
    "operation",
    "readable",
]

# Written out, not imported: the package of the conventions has them as experimental, and moves them.
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
TASK: Final = "tranship.task.name"
ATTEMPT: Final = "tranship.task.attempt"
DELIVERIES: Final = "tranship.task.delivery_count"
OUTCOME: Final = "tranship.task.outcome"

SENT: Final = "messaging.client.sent.messages"
OPERATION_DURATION: Final = "messaging.client.operation.duration"
CONSUMED: Final = "messaging.client.consumed.messages"
PROCESS_DURATION: Final = "messaging.process.duration"

OTHER: Final = "_OTHER"
"""For tasks that have never run here: whoever can write to the broker must not choose names of series without end."""
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The buckets that the conventions ask for."""


def operation(name: str) -> dict[str, str]:
    """Return what every span of one operation says."""
    return {SYSTEM: "tranship", OPERATION_NAME: name, OPERATION_TYPE: name}


def readable(text: str) -> str:
    """Return ``text`` as it can be exported: half of a character, which a stranger's message may have, is no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
