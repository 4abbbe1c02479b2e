"""Options and URLs that cannot be: refused before anything is connected, without a secret in the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.errors import ConfigurationError, InvalidOptionError, InvalidURLError
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship_nats._dialling import Dialler
from tranship_nats._options import NatsOptions


def _shared(_key: object, make: object) -> object:
    return make()  # type: ignore[operator]


def _make(url: str) -> object:
    return Registry().create(url, shared=_shared)


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ("replicas=6", "1 to 5"),
        ("storage=tape", "file, memory"),
        ("lease=0.01", "at least 0.1 seconds"),
        ("dedup_window=0.01", "at least 0.1 seconds"),
        ("inbox_prefix=a.*", "a subject without wildcards"),
        ("inbox_prefix=$JS", "a subject without wildcards"),
        ("domain=a.b", "a name without dots"),
        ("replica=3", "did you mean replicas"),
        ("credentials=/nowhere/user.creds", "a file that exists"),
        ("ca_certs=/nowhere/ca.pem", "a file that exists"),
        ("max_ack_pending=0", "at least 1"),
    ],
)
def test_an_option_that_cannot_be_is_refused(query: str, match: str) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        _make(f"nats://localhost?{query}")


@pytest.mark.parametrize(("option", "match"), [("credentials", "nsc generate creds"), ("nkey_file", "NKey, SU...")])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, option: str, match: str) -> None:
    file = tmp_path / "s3cret.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(InvalidOptionError, match=match) as caught:
        _make(f"nats://localhost?{option}={file}")
    assert option == "nkey_file" or "s3cret" not in str(caught.value)


def test_a_path_is_refused() -> None:
    with pytest.raises(InvalidURLError, match="NATS knows none: use namespace="):
        _make("nats://localhost/0")


def test_two_kinds_of_credentials_are_refused(tmp_path: Path) -> None:
    seed = tmp_path / "seed.nk"
    seed.write_text("SU...")
    with pytest.raises(InvalidURLError, match="several kinds of credentials"):
        _make(f"nats://s3cret@localhost?nkey_file={seed}")


@pytest.mark.parametrize("url", ["nats://s3cret@host", "nats://u:s3cret@host?replica=1", "tls://host?token=s3cret&x=1"])
def test_no_secret_is_shown(url: str) -> None:
    try:
        text = repr(_make(url))
    except ConfigurationError as error:
        text = str(error)
    assert "s3cret" not in text


def test_several_hosts_are_several_servers() -> None:
    assert Dialler(BrokerURL.parse("nats://a:1,b,[::1]:3"), NatsOptions()).place == "a:1,b:4222,[::1]:3"
