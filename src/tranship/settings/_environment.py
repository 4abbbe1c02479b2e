"""Whether an environment looks like production."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["production_signs"]

_PLATFORMS: Final = (
    "KUBERNETES_SERVICE_HOST",
    "DYNO",
    "ECS_CONTAINER_METADATA_URI_V4",
    "AWS_LAMBDA_FUNCTION_NAME",
    "K_SERVICE",
    "FLY_APP_NAME",
    "WEBSITE_INSTANCE_ID",
)
"""Set by platforms that run services: Kubernetes, Heroku, ECS, Lambda, Cloud Run, Fly, Azure."""

_STAGES: Final = ("ENV", "ENVIRONMENT", "APP_ENV", "PYTHON_ENV", "DJANGO_ENV", "FLASK_ENV", "NODE_ENV", "STAGE")
_PRODUCTION: Final = ("prod", "production", "live")


def production_signs(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that say so, as ``NAME`` or ``NAME=value``; empty: it does not."""
    platforms = [name for name in _PLATFORMS if environ.get(name)]
    stages = [f"{name}={environ[name]}" for name in _STAGES if environ.get(name, "").lower() in _PRODUCTION]
    return platforms + stages
