"""Which API a backend was written for, against the one that is here."""

from __future__ import annotations

from tranship.hookspecs import API_VERSION, BackendSpec

__all__ = ["api_problem"]


def api_problem(spec: BackendSpec) -> str | None:
    """Return why ``spec`` cannot be used with this version of tranship, or None."""
    if spec.api_version[0] == API_VERSION[0]:
        return None
    older = spec.api_version[0] < API_VERSION[0]
    cure = "upgrade the plugin, or change it as docs/reference/hooks.md says" if older else "upgrade tranship"
    theirs, ours = _dotted(spec.api_version), _dotted(API_VERSION)
    return f"backend {spec.name} speaks API version {theirs}, this tranship {ours}; {cure}"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
