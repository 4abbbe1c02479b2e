"""Error replies: which of ours, and what the text says and does not say."""

import re
import traceback

import pytest

from tranship.errors import BrokerRefused, BrokerUnreachable, StorageFull, TranshipError
from tranship_redis._errors import Lost, NotReady, again, error_of, reply_error
from tranship_redis._scripts import ALL, Script, command_at

REPLIES = [
    ("NOAUTH Authentication required.", BrokerRefused),
    ("WRONGPASS invalid username-password pair or user is disabled.", BrokerRefused),
    ("NOPERM this user has no permissions to run the 'lpush' command", BrokerRefused),
    ("DENIED Redis is running in protected mode because ...", BrokerRefused),
    ("OOM command not allowed when used memory > 'maxmemory'.", StorageFull),
    ("MISCONF Redis is configured to save RDB snapshots, but ...", StorageFull),
    ("READONLY You can't write against a read only replica.", BrokerUnreachable),
    ("LOADING Redis is loading the dataset in memory", NotReady),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", NotReady),
    ("BUSY Redis is busy running a script.", NotReady),
    ("NOREPLICAS Not enough good replicas to write.", BrokerUnreachable),
    ("CLUSTERDOWN Hash slot not served", BrokerUnreachable),
    ("TRYAGAIN Multiple keys request during rehashing of slot", BrokerUnreachable),
    ("MOVED 3999 127.0.0.1:6381", BrokerRefused),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", BrokerRefused),
    ("ERR max number of clients reached", BrokerUnreachable),
    ("ERR syntax error", BrokerRefused),
    ("SOMETHINGNEW we have never heard of", BrokerRefused),
    # Redis 6 hides what a script met.
    ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed ...", StorageFull),
    ("ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation against ...", BrokerRefused),
    # The word alone means nothing where it is somebody's text.
    ("ERR unknown subcommand 'LOADING'", BrokerRefused),
]


@pytest.mark.parametrize(("text", "kind"), REPLIES)
def test_each_reply_is_one_of_ours(text: str, kind: type[TranshipError]) -> None:
    reply = reply_error(text)

    error = error_of(reply, doing="pushing to queue 'media'")

    assert type(error) is kind
    assert error.__cause__ is reply
    assert str(error).startswith("pushing to queue 'media': ")
    assert text in str(error)


def test_no_rights_says_what_to_grant() -> None:
    error = error_of(reply_error("NOPERM this user has no permissions to run the 'lpush' command"), doing="x")

    assert "'lpush'" in str(error)
    assert "ACL SETUSER" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "ERR The user executing the script can't run this command or subcommand script: {sha}, on @user_script:{line}.",
        "ERR Error running script (call to f_{sha}): @user_script:{line}: @user_script: {line}: -NOPERM no permissions",
    ],
)
def test_no_rights_inside_of_a_script_names_the_command(text: str) -> None:
    lines = [
        (script, number, found[1])
        for script in ALL
        for number, said in enumerate(script.source.decode().splitlines(), 1)
        if (found := re.search(r"'([A-Z]{3,})'", said))
    ]
    assert len(lines) > len(ALL)
    script, line, command = lines[-1]

    error = error_of(reply_error(text.format(sha=script.sha.decode(), line=line)), doing="running it")

    assert type(error) is BrokerRefused
    assert str(error).startswith(f"running it ({command}): ")
    assert "ACL SETUSER" in str(error)


@pytest.mark.parametrize("text", ["x script: " + 40 * "0" + ", on @user_script:1.", "on @user_script:1.", ""])
def test_scripts_of_others_name_nothing(text: str) -> None:
    assert command_at(text) == ""


def test_a_line_that_a_script_does_not_have() -> None:
    assert command_at(f"script: {ALL[0].sha.decode()}, on @user_script:99999.") == ""


def test_what_an_old_server_repeats_is_not_shown() -> None:
    reply = reply_error("ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `me`, `sesame`, ")

    shown = "".join(traceback.format_exception(error_of(reply, doing="connecting")))
    assert "HELLO" in shown
    assert "sesame" not in shown


def test_one_error_for_each_of_several_callers() -> None:
    first = Lost("gone")
    first.__cause__ = OSError("broken")

    second = again(first)

    assert second is not first
    assert type(second) is Lost
    assert (str(second), second.__cause__) == ("gone", first.__cause__)


@pytest.mark.parametrize("script", ALL, ids=repr)
def test_a_script_fits_where_a_password_is_wanted_first(script: Script) -> None:
    """Redis cuts whoever sends a longer string before AUTH, and we say who we are and load scripts in one write."""
    assert len(script.source) < 16384


def test_an_old_server_that_is_full_says_so_to_a_script() -> None:
    text = "@user_script: 275: -OOM command not allowed when used memory > 'maxmemory'.   (ZADD unacked_index)"
    assert type(error_of(reply_error(text), doing="claiming")) is StorageFull
