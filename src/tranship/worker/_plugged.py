"""What plugins put around every handler: their middleware, and classifiers of exceptions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tranship._defaults import default_registry
from tranship.connections import process_table
from tranship.errors import TranshipError
from tranship.middleware import Middleware, Next, RunCall
from tranship.registry import Classifier, Registry

__all__ = ["with_plugins"]

log = logging.getLogger("tranship.worker")


def with_plugins(own: Sequence[Middleware], registry: Registry | None) -> Sequence[Middleware]:
    """Return a worker's own middleware inside that of plugins; next to the handler, their classifiers.

    Raises:
        PluginError: something of a plugin's cannot be imported or made.
    """
    plugins = registry or default_registry(process_table())
    classifiers = plugins.classifiers()
    return (*plugins.middleware(), *own, *([Classifying(classifiers)] if classifiers else []))


class Classifying(Middleware):
    """Raises what an exception means in its place; the first classifier that knows it decides.

    Args:
        classifiers: each is called with what a handler raised. An error of tranship's means what it says already.
    """

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        self._classifiers = classifiers

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Call the handler."""
        try:
            return await call_next(call)
        except TranshipError:
            raise
        except Exception as error:
            if (meant := self._meant(error)) is not None and meant is not error:
                raise meant from error
            raise

    def _meant(self, error: Exception) -> BaseException | None:
        for classify in self._classifiers:
            try:
                if (meant := classify(error)) is not None:
                    return meant
            except Exception:
                log.exception("the exception classifier %r failed; %s stays as it is", classify, type(error).__name__)
        return None
