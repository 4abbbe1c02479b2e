"""Operators, accounts and users, as JWTs signed by their NKeys: what `nsc` makes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

__all__ = ["Identity", "Operator"]

_UNLIMITED = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT = {
    **_UNLIMITED,
    **dict.fromkeys(("imports", "exports", "conn", "leaf", "streams", "consumer"), -1),
    "wildcards": True,
}
_STORAGE = {"mem_storage": -1, "disk_storage": -1}


class Identity:
    """A key pair."""

    def __init__(self, kind: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), kind))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def sign(self, subject: str, name: str, claims: dict[str, Any], *, expires: float | None = None) -> str:
        """Return a token in which this one says something of ``subject``."""
        claim: dict[str, Any] = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject}
        if expires is not None:
            claim["exp"] = int(expires)
        claim["nats"] = {**claims, "version": 2}
        digest = hashlib.sha256(json.dumps(claim).encode()).digest()
        claim["jti"] = base64.b32encode(digest).decode().rstrip("=")
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(claim)}"
        return f"{signed}.{_base64(self._pair.sign(signed.encode()))}"


class Operator(Identity):
    """Who vouches for accounts; with one account that has JetStream, and one for the system."""

    def __init__(self) -> None:
        super().__init__(nkeys.PREFIX_BYTE_OPERATOR)
        self.account = Identity(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Identity(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def lines(self) -> list[str]:
        """What a server's configuration says of it."""
        system = self._system.public
        token = self.sign(self.public, "operator", {"type": "operator", "system_account": system})
        accounts = {
            system: self.sign(system, "SYS", {"type": "account", "limits": _ACCOUNT}),
            self.account.public: self.sign(
                self.account.public, "tasks", {"type": "account", "limits": {**_ACCOUNT, **_STORAGE}}
            ),
        }
        preload = ", ".join(f"{public}: {signed}" for public, signed in accounts.items())
        return [
            f"operator: {token}",
            f"system_account: {system}",
            "resolver: MEMORY",
            f"resolver_preload: {{ {preload} }}",
        ]

    def credentials(self, file: Path, *, issuer: Identity | None = None, expires: float | None = None) -> Path:
        """Write the ``.creds`` file of a new user; of our account, unless another one signs."""
        user = Identity(nkeys.PREFIX_BYTE_USER)
        claims = {"type": "user", "pub": {}, "sub": {}, **_UNLIMITED}
        token = (issuer or self.account).sign(user.public, file.stem, claims, expires=expires)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return file


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
