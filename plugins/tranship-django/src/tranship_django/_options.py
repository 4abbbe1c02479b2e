"""``OPTIONS`` of a backend in the setting ``TASKS``, checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from tranship.errors import TranshipError
from tranship.settings import Settings
from tranship.task import TaskOptions

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a backend can be told.

    Attributes:
        url: the broker; None: ``TRANSHIP_BROKER_URL``, the settings file, else the embedded default.
        result_url: where results are kept; None: at the broker.
        namespace: prefixes every name on the broker.
        enqueue_on_commit: whether what is enqueued in a transaction is sent when that commits.
        task_options: for every task, such as ``{"run_timeout": 60}``: arguments of tranship's ``@task``.
    """

    url: str | None = field(default=None, repr=False)  # it may have a password
    result_url: str | None = field(default=None, repr=False)
    namespace: str | None = None
    enqueue_on_commit: bool = True
    task_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, alias: str, given: Mapping[str, Any]) -> Options:
        """Return the options of the backend ``alias``.

        Raises:
            ImproperlyConfigured: an unknown one, or a value that cannot be used.
        """
        where, known = f"TASKS[{alias!r}]['OPTIONS']", [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                guess = f"did you mean {close[0]!r}? " if close else ""
                raise ImproperlyConfigured(f"{where} has {name!r}; {guess}known are: {', '.join(known)}")
        options = cls(**given)
        if not isinstance(options.enqueue_on_commit, bool):
            raise ImproperlyConfigured(f"{where}: enqueue_on_commit is {options.enqueue_on_commit!r}; expected a bool")
        if not isinstance(options.task_options, Mapping):
            raise ImproperlyConfigured(f"{where}: task_options is {options.task_options!r}; expected a dict")
        try:
            options.settings()
            options.defaults()
        except (TranshipError, TypeError) as error:
            raise ImproperlyConfigured(f"{where}: {error}") from None
        return options

    def settings(self) -> Settings:
        """Return tranship's settings: these over those of the environment and the settings file."""
        return Settings.load(broker_url=self.url, result_url=self.result_url, namespace=self.namespace)

    def defaults(self) -> TaskOptions:
        """Return tranship's options of a task that says nothing."""
        return TaskOptions(**self.task_options)
