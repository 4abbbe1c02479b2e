"""Which API a backend was written for, against the one that is here."""

from __future__ import annotations

import re

from tranship.hookspecs import API_VERSION, PluginPart

__all__ = ["api_problem", "kind_of"]


def api_problem(spec: PluginPart) -> str | None:
    """Return why ``spec`` cannot be used with this version of tranship, or None."""
    if spec.api_version[0] == API_VERSION[0]:
        return None
    older = spec.api_version[0] < API_VERSION[0]
    cure = "upgrade the plugin, or change it as docs/reference/hooks.md says" if older else "upgrade tranship"
    theirs, ours = _dotted(spec.api_version), _dotted(API_VERSION)
    return f"{kind_of(spec)} {spec.name} speaks API version {theirs}, this tranship {ours}; {cure}"


def kind_of(part: PluginPart) -> str:
    """Return what a part is called: ``"backend"``, ``"result store"``, ``"middleware"``, ..."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(part).__name__.removesuffix("Spec")).lower()


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
