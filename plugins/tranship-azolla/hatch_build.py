"""Makes the messages of the protocol from ``wire.proto``, wherever a wheel is built or the sources are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "tranship_azolla"
PROTO = f"{PACKAGE}/wire.proto"


class WireHook(BuildHookInterface):
    """Runs protoc, which is in grpcio-tools, before each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - for every kind of build
        """Write ``wire_pb2.py`` beside the proto file."""
        from grpc_tools import protoc

        source = Path(self.root, "src")
        code = protoc.main(["protoc", f"--proto_path={source}", f"--python_out={source}", str(source / PROTO)])
        if code:
            raise RuntimeError(f"protoc could not read {PROTO}: exit code {code}; what is wrong stands above")
