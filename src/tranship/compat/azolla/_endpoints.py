"""Endpoints as Azolla writes them, and the URLs that they are here."""

from __future__ import annotations

from typing import Final

from tranship.checks import invalid

__all__ = ["SHEPHERD", "broker_url", "report_url"]

SHEPHERD: Final = "azolla+shepherd"
"""The scheme of who is told how a task ended, and has it repeated where it is to be."""

_PLAIN: Final = "http://"
_SECURE: Final = "https://"


def broker_url(endpoint: str | None) -> str | None:
    """Return the URL of where a client submits to: an orchestrator's by its scheme, any broker's as it is.

    Raises:
        InvalidOptionError: an endpoint with TLS, which Azolla's protocol is spoken without.
    """
    return endpoint if endpoint is None else _url(endpoint, "azolla")


def report_url(endpoint: str) -> str:
    """Return the URL of where a result is reported to: likewise, a shepherd's; raises as :func:`broker_url`."""
    return _url(endpoint, SHEPHERD)


def _url(endpoint: str, scheme: str) -> str:
    text = str(endpoint)
    if text.startswith(_SECURE):
        raise invalid(
            "endpoint",
            endpoint,
            f"{_PLAIN}host:port, because Azolla's protocol is spoken without TLS, or the URL of a broker",
        )
    return f"{scheme}://{text.removeprefix(_PLAIN)}" if text.startswith(_PLAIN) else endpoint
