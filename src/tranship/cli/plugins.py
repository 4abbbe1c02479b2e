"""``tranship plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.hookspecs import PluginPart
    from tranship.registry import PluginStatus

STYLES = {"loaded": "green", "failed": "red", "missing": "red", "blocked": "yellow"}


@command()
def run(call: Invocation) -> None:
    """Show what there is: built-ins and installed plugins, what they bring, and what is wrong with them."""
    from tranship.registry import Registry

    plugins = Registry().plugins()
    if call.json:
        call.output.json([as_data(plugin) for plugin in plugins])
    else:
        show(call, plugins)


def as_data(plugin: PluginStatus) -> dict[str, Any]:
    """Return the status as JSON has it."""
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": plugin.state.value,
        "error": str(plugin.error) if plugin.error else None,
        "backends": [
            {"name": spec.name, "schemes": spec.schemes, "summary": spec.summary, "api_version": spec.api_version}
            for spec in plugin.backends
        ],
        "parts": [
            {"kind": kind, "name": part.name, "summary": part.summary, "api_version": part.api_version}
            for kind, part in others(plugin)
        ],
    }


def others(plugin: PluginStatus) -> list[tuple[str, PluginPart]]:
    """Return what a plugin brings beside backends, each with what it is called."""
    from tranship.registry import kind_of

    return [(kind_of(part), part) for part in plugin.parts if part not in plugin.backends]


def show(call: Invocation, plugins: Sequence[PluginStatus]) -> None:
    """Print the table: one row for each thing that a plugin brings, one for each plugin without any."""
    from rich.text import Text

    rows: list[list[Any]] = []
    for plugin in plugins:
        state = Text(plugin.state.value, STYLES.get(plugin.state.value, ""))
        origin = f"{plugin.distribution} {plugin.version}".strip()
        for spec in plugin.backends:
            schemes = " ".join(f"{scheme}://" for scheme in spec.schemes)
            rows.append([plugin.name, origin, state, spec.name, schemes, str(plugin.error or spec.summary)])
        for kind, part in others(plugin):
            rows.append([plugin.name, origin, state, part.name, kind, str(plugin.error or part.summary)])
        if not plugin.parts:
            rows.append([plugin.name, origin, state, "", "", str(plugin.error or "")])
    call.output.table(["plugin", "distribution", "state", "brings", "as", ""], rows)
