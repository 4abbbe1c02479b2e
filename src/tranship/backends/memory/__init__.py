"""``memory://[name]``: a broker inside the process, shared by all its clients and workers."""

from __future__ import annotations

from tranship.backends.memory._backend import MemoryOptions, broker_of, make_backend
from tranship.backends.memory._broker import MemoryBroker
from tranship.backends.memory._clock import Clock

__all__ = ["Clock", "MemoryBroker", "MemoryOptions", "broker_of", "make_backend"]
