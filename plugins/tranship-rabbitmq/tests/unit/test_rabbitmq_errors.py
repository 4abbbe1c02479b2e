"""What the server says, as our errors: the right kind, the server's words, and the cure."""

from __future__ import annotations

import ssl

import pytest

from tranship.errors import BrokerRefused, BrokerUnreachable, StorageFull, SubmitUnknown
from tranship_rabbitmq._errors import error_of, is_down, is_missing, largest, mismatch, retryable, trouble_at
from tranship_rabbitmq._publisher import failure
from tranship_rabbitmq.amqp.ends import ChannelEnded, Nacked, Returned, WireEnded

MISMATCH = (
    "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current "
    "is the value '10' of type 'signedint'"
)
ABSENT = "PRECONDITION_FAILED - queue 'queue 'q' in vhost '/'' does not have a replica on the local node"


@pytest.mark.parametrize(
    ("why", "kind", "words"),
    [
        (WireEnded("ACCESS_REFUSED - Login was refused using PLAIN", 403), BrokerRefused, "correct them in the URL"),
        (WireEnded("NOT_ALLOWED - vhost shop not found", 530), BrokerRefused, "add_vhost"),
        (WireEnded("NOT_ALLOWED - access to vhost 'shop' refused for user 'me'", 530), BrokerRefused, "set_perm"),
        (WireEnded("NOT_ALLOWED - vhost 'shop' is down", 530), BrokerUnreachable, "comes back"),
        (ChannelEnded("ACCESS_REFUSED - configure access to queue 'q' refused", 403), BrokerRefused, "set_perm"),
        (ChannelEnded("NOT_FOUND - home node 'a@b' of durable queue 'q' is down", 404), BrokerUnreachable, "back"),
        (ChannelEnded(ABSENT, 406), BrokerUnreachable, "add_replica"),
        (WireEnded("CONNECTION_FORCED - broker forced connection closure", 320), BrokerUnreachable, "forced"),
        (WireEnded("the connection was lost"), BrokerUnreachable, "lost"),
        (Nacked("the server did not take the message"), StorageFull, "full"),
    ],
)
def test_kind_words_and_cure(why, kind, words):
    error = error_of(why, doing="declaring 'q'")
    assert type(error) is kind
    assert why.text in str(error)
    assert words in str(error)
    assert "declaring 'q'" in str(error)
    assert error.__cause__ is why


def test_missing_and_away_are_different():
    assert is_missing(ChannelEnded("NOT_FOUND - no queue 'q' in vhost '/'", 404))
    assert not is_missing(ChannelEnded("NOT_FOUND - home node 'a@b' of durable queue 'q' is down", 404))
    stopped = ChannelEnded("NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", 404)
    assert not is_missing(stopped)
    assert is_down(error_of(stopped, doing="reading 'q'"))


def test_what_differs_is_known():
    assert mismatch(ChannelEnded(MISMATCH, 406)) == (
        "x-max-priority",
        "none but current is the value '10' of type 'signedint'",
    )
    assert mismatch(ChannelEnded("NOT_FOUND", 404)) is None


def test_the_servers_own_limit_is_known_from_its_refusal():
    words = "PRECONDITION_FAILED - message size 100011 is larger than configured max size 65536"
    assert largest(ChannelEnded(words, 406)) == 65536
    assert largest(ChannelEnded(MISMATCH, 406)) is None
    assert largest(ChannelEnded(words, 404)) is None


def test_what_may_pass_is_retryable():
    refused = error_of(WireEnded("NOT_ALLOWED - vhost shop not found", 530), doing="connecting")
    passing = retryable(refused)
    assert type(passing) is BrokerUnreachable
    assert str(passing) == str(refused)
    assert retryable(passing) is passing


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        (Returned("NO_ROUTE", 312), BrokerUnreachable),
        (Nacked("no"), StorageFull),
        (WireEnded("the connection was lost"), SubmitUnknown),
        (ChannelEnded("PRECONDITION_FAILED", 406), SubmitUnknown),
        (ChannelEnded("ACCESS_REFUSED", 403), BrokerRefused),
    ],
)
def test_a_submit_without_a_confirm_is_unknown_unless_the_server_was_clear(why, kind):
    error = failure(why, "submitting task a", "a")
    assert type(error) is kind
    assert error.task_id == "a"


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("certificate verify failed: certificate has expired", "needs a new one"),
        ("certificate verify failed: self-signed certificate", "ca_certs"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'h'", "check_hostname"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "amqp://"),
    ],
)
def test_certificates_say_what_to_do(text, cure):
    error = trouble_at("RabbitMQ at h:5671", ssl.SSLError(1, text))
    assert isinstance(error, BrokerRefused)
    assert cure in str(error)
