"""No class of the core or of an installed plugin shows a secret when it is printed."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from dataclasses import fields, is_dataclass

from tranship.settings import is_secret

NAMES = ("avtomatika", "kombu", "redis", "rabbitmq", "nats", "objectstore", "otel", "django")
KNOWN = tuple(f"tranship_{name}" for name in NAMES)
PLUGINS = [name for name in KNOWN if importlib.util.find_spec(name)]

NO_SECRETS = {"cancel_key", "dedup_key", "routing_key", "key", "signature"}
"""Fields whose names read like a secret's."""


def dataclasses_of(package: str) -> list[type]:
    module = importlib.import_module(package)
    found = []
    for part in pkgutil.walk_packages(module.__path__, f"{package}."):
        if not part.name.endswith("__main__"):
            inner = importlib.import_module(part.name)
            # Not isinstance(): what Django puts in the place of its settings reads them to say what it is.
            members = [one for one in vars(inner).values() if issubclass(type(one), type) and is_dataclass(one)]
            found += [one for one in members if one.__module__ == part.name]
    return found


def secrets_of(kind: type) -> list[str]:
    # Texts only: a delivery's token is a driver's object.
    texts = [part.name for part in fields(kind) if "str" in str(part.type)]
    return [name for name in texts if is_secret(name) and name not in NO_SECRETS]


def _other(kind: str) -> object:
    return () if "tuple" in kind else {} if "Mapping" in kind else "x"


def test_no_repr_shows_a_secret() -> None:
    checked = set()
    for kind in [one for package in ("tranship", *PLUGINS) for one in dataclasses_of(package)]:
        secret = secrets_of(kind)
        if not secret:
            continue
        planted = object.__new__(kind)
        for part in fields(kind):
            object.__setattr__(planted, part.name, "hunter2" if part.name in secret else _other(str(part.type)))
        assert "hunter2" not in repr(planted), f"{kind.__module__}.{kind.__qualname__} shows one of {secret}"
        checked |= {(kind.__name__, name) for name in secret}
    assert ("BrokerURL", "password") in checked
    assert "tranship_nats" not in PLUGINS or ("NatsOptions", "token") in checked
    assert "tranship_rabbitmq" not in PLUGINS or ("Place", "password") in checked
