"""The golden vectors: bytes captured from Celery, with what they hold. ``vectors/index.json`` lists them."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tranship.protocol import RawMessage

FOLDER = Path(__file__).parent / "vectors"
INDEX: dict[str, dict[str, Any]] = json.loads((FOLDER / "index.json").read_text("utf-8"))["files"]


@dataclass(frozen=True)
class Vector:
    name: str
    about: dict[str, Any]

    def read(self) -> bytes:
        return (FOLDER / self.name).read_bytes()

    @property
    def expect(self) -> dict[str, Any]:
        return self.about["expect"]

    def __str__(self) -> str:
        return self.name


def vectors(kind: str) -> list[Vector]:
    return [Vector(name, about) for name, about in INDEX.items() if about["kind"] == kind]


def message(vector: Vector) -> RawMessage:
    """Return what a driver would hand on for a captured task message."""
    return of_element(vector.read()) if vector.about["kind"] == "message" else of_amqp(vector)


def of_element(element: bytes) -> RawMessage:
    """Return the message in an element of a Redis list."""
    fields = json.loads(element)
    properties = fields["properties"]
    body = fields["body"].encode()
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    return RawMessage(fields["headers"], body, fields["content-type"], fields["content-encoding"], properties)


def of_amqp(vector: Vector) -> RawMessage:
    """Return the message in a captured AMQP body and the properties captured with it."""
    published = json.loads((FOLDER / vector.name.replace(".body.bin", ".props.json")).read_bytes())
    properties = published["properties"]
    encoding = properties["content_encoding"]
    return RawMessage(properties["headers"], vector.read(), properties["content_type"], encoding, properties)
