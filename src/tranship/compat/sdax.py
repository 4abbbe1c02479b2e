"""The names of sdax 0.3: ``from tranship.compat.sdax import AsyncTask, AsyncTaskProcessor, TaskFunction``.

They are those of :mod:`tranship.stages`, which keeps what the description of sdax promises.
"""

from __future__ import annotations

from tranship.stages import AsyncTask, AsyncTaskProcessor, AsyncTaskProcessorBuilder, TaskFunction

__all__ = ["AsyncTask", "AsyncTaskProcessor", "AsyncTaskProcessorBuilder", "TaskFunction"]
