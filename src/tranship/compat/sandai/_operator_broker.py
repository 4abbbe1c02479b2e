"""Where an operator works: what was given, else what clients would read from the environment, else the local Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tranship.compat.sandai._config import Config, Given, read_config
from tranship.settings import BrokerURL, Settings

__all__ = ["operator_config", "operator_settings"]


def operator_config(
    name: str,
    version: str,
    broker_url: str | None,
    result_backend: str | None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return what a client of the operator with the same arguments would go by.

    Raises:
        InvalidURLError, InvalidOptionError: a value that cannot be used, wherever it comes from.
    """
    return read_config(Given(name, version, broker_url, result_backend), environ)


def operator_settings(config: Config, **more: Any) -> Settings:
    """Return the settings of a worker for it; None in ``more`` counts as not given.

    Raises:
        InvalidURLError, InvalidOptionError: a value that cannot be used.
    """
    # One and the same URL: a worker's results and settlements are then one step.
    apart = _place(config.results) != _place(config.broker)
    broker = config.broker if apart else config.results
    settings = Settings.load(broker_url=broker, result_url=config.results if apart else None, **more)
    # Without one of its own: not what holds for other workers of this process.
    return settings if apart else replace(settings, result_url=None)


def _place(url: BrokerURL) -> BrokerURL:
    options = {name: value for name, value in url.options.items() if name != "result_serializer"}
    return replace(url, options=options)
