"""URLs, options, environment and files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.checks import positive
from tranship.errors import ConfigurationError, InvalidOptionError, InvalidURLError
from tranship.settings import (
    BackendConfig,
    BrokerURL,
    CommonOptions,
    Settings,
    TaskRoutes,
    default_broker_url,
    is_secret,
    redact,
    state_file,
)

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
URLS = st.builds(
    BrokerURL,
    scheme=st.sampled_from(["redis", "amqps", "sqs", "kombu+sqs"]),
    username=st.none() | WORDS,
    password=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    host=WORDS,
    port=st.none() | st.integers(min_value=1, max_value=65535),
    path=st.just("") | WORDS.map("/".__add__),
    options=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]))),
    more_hosts=st.lists(st.tuples(WORDS, st.integers(min_value=1, max_value=65535))).map(tuple),
)


class TestReading:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("redis://localhost:6379/0", {"host": "localhost", "port": 6379, "path": "/0", "database": "0"}),
            ("REDIS://h", {"scheme": "redis", "host": "h", "port": None, "path": "", "options": {}}),
            ("amqp://u%40x:p%2Fw%3A@h/%2F", {"username": "u@x", "password": "p/w:", "database": "/"}),
            ("redis://:secret@h", {"username": None, "password": "secret"}),
            ("redis://u@h", {"username": "u", "password": None}),
            ("redis://u:p@ss@h", {"password": "p@ss", "host": "h"}),
            ("redis://[::1]:7", {"host": "::1", "port": 7}),
            ("redis://[fe80::1%25eth0]", {"host": "fe80::1%eth0"}),
            ("nats://a:1,b,[::2]:3", {"hosts": (("a", 1), ("b", None), ("::2", 3))}),
            ("sqlite://", {"host": "", "path": "", "database": ""}),
            ("sqlite:///rel/x.db", {"database": "rel/x.db"}),
            ("sqlite:////abs/x.db", {"database": "/abs/x.db"}),
            ("sqlite:///C:/dir/x.db", {"database": "C:/dir/x.db"}),
            ("sqlite:///C:\\dir\\x.db", {"database": "C:\\dir\\x.db"}),
            ("sqlite:///my%20dir/x.db", {"database": "my dir/x.db"}),
            ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
            ("memory://", {"scheme": "memory", "host": ""}),
            ("redis://h/0?a=1&b=x%26y&c=", {"options": {"a": "1", "b": "x&y", "c": ""}}),
            ("redis://h?a=1", {"path": "", "options": {"a": "1"}}),
        ],
    )
    def test_parts(self, text, parts):
        url = BrokerURL.parse(text)
        assert {name: getattr(url, name) for name in parts} == parts

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "expected a text such as"),
            (None, "expected a text such as"),
            ("localhost:6379", "does not start with a scheme"),
            ("//localhost", "does not start with a scheme"),
            ("re dis://h", "does not start with a scheme"),
            ("redis:/h", "does not start with a scheme"),
            ("redis://h:port", "port is not a number"),
            ("redis://h:", "port is not a number"),
            ("redis://h:0", "port is not a number from 1 to 65535"),
            ("redis://h:65536", "port is not a number from 1 to 65535"),
            ("redis://h:-1", "port is not a number"),
            ("redis://h:\u0661", "port is not a number"),
            ("redis://[::1", "host cannot be read"),
            ("redis://h x", "white space"),
            ("redis://h\n", "white space"),
            ("redis://h/0#f", "has a '#'; in a password write"),
            ("redis://h?a=1&a=2", "the option 'a' twice"),
            ("redis://h?=1", "an option without a name"),
            ("redis://:%FF@h", "not UTF-8"),
        ],
    )
    def test_what_is_no_url_is_said_to_be_none(self, text, why):
        with pytest.raises(InvalidURLError, match=why):
            BrokerURL.parse(text)

    @given(url=URLS)
    def test_what_is_revealed_reads_back(self, url):
        assert BrokerURL.parse(url.reveal()) == url

    def test_equal_urls_have_equal_hashes(self):
        assert len({BrokerURL.parse("redis://h?a=1"), BrokerURL.parse("REDIS://h?a=1")}) == 1

    def test_options_are_added(self):
        url = BrokerURL.parse("redis://h?a=1").with_options(a=2, namespace="x", flag=True)
        assert str(url) == "redis://h?a=2&namespace=x&flag=True"

    def test_nothing_can_be_changed(self):
        url = BrokerURL.parse("redis://h?a=1")
        with pytest.raises(TypeError):
            url.options["a"] = "2"
        with pytest.raises(AttributeError):
            url.host = "other"


class TestSecrets:
    @given(url=URLS, secret=st.text("PQXYZ*@/#?%", min_size=8, max_size=12))
    def test_no_text_shows_the_password_or_a_secret_option(self, url, secret):
        url = BrokerURL(scheme=url.scheme, username=url.username, password=secret, host="host", path=url.path)
        url = url.with_options(api_token=secret, ssl_keyfile_password=secret, aws_secret=secret, private_key=secret)
        for text in (str(url), repr(url), f"{url}"):
            assert secret not in text
            assert "PQXYZ" not in text

    @pytest.mark.parametrize(
        "text",
        [
            "redis://user:hunter2@host:badport",
            "redis://user:hunter2/@host",
            "redis://user:/hunter2@host",
            "redis://user:#hunter2@host",
            "redis://user:12/hunter2@host",
            "redis://user:?hunter2@host",
            "redis://user:12?hunter2@host",
            "redis://user:12?hunter2@host=",
            "redis://user:@hunter2@host:x",
            "redis:user:hunter2@host",
            "user:hunter2@host",
            "redis://h:port?password=hunter2",
            "redis://app:hunter2",
            "redis://app:hunter2/0",
            "redis://:hunter2",
            "redis://a:6379,app:hunter2/0",
            "redis://[::1]:hunter2",
            "redis://app:12hunter2,b",
            "redis//app:hunter2",
            "app:hunter2",
            "redis://app:hunter2?a=1&a=2",
            "redis://h:port/?a=1&api_key=hunter2",
            "redis://h x?secret=hunter2",
            "failover://?one=redis://u:hunter2@h&one=x",
        ],
    )
    def test_no_error_shows_a_password(self, text):
        with pytest.raises(InvalidURLError) as caught:
            BrokerURL.parse(text)
        assert "hunter2" not in str(caught.value)

    def test_a_token_of_nats_is_a_secret(self):
        assert str(BrokerURL.parse("nats://hunter2@h:4222")) == "nats://***@h:4222"
        assert str(BrokerURL.parse("nats://me:hunter2@h")) == "nats://me:***@h"

    def test_a_url_inside_an_option_is_redacted(self):
        url = BrokerURL.parse("failover://?one=redis://:hunter2@a/0&two=redis://b")
        assert str(url) == "failover://?one=redis://***@a/0&two=redis://b"

    def test_an_error_about_a_secret_option_does_not_show_it(self):
        @dataclass(frozen=True)
        class Options:
            token: int = 0

        with pytest.raises(InvalidOptionError, match=r"option token is \*\*\* in redis://h\?token=\*\*\*") as caught:
            BrokerURL.parse("redis://h?token=hunter2").options_as(Options)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, '{"brokers":' * 100_000, "redis://\ud800 redis://b", "a://[\ud800"]
    )
    def test_no_text_ends_the_reading_otherwise(self, text):
        with pytest.raises(InvalidURLError):
            BrokerURL.parse(text)

    @pytest.mark.parametrize(
        "name",
        ["password", "PASSWORD", "ssl_passphrase", "secret", "api-token", "access_key", "apikey", "pwd", "db.pass"],
    )
    def test_secret_names(self, name):
        assert is_secret(name)

    @pytest.mark.parametrize("name", ["namespace", "lease", "key_prefix", "bypass", "queue", "password_file"])
    def test_names_that_are_not_secret(self, name):
        assert not is_secret(name)

    def test_redact_keeps_what_is_not_secret(self):
        assert redact("redis://h/0?a=1&password=x&b=2") == "redis://h/0?a=1&password=***&b=2"
        for text in (
            "redis://h:6379/0",
            "amqp://a:5672,b:5673//",
            "redis://[::1]:6379/0",
            "'redis://h:6379',",
            "sqlite:///C:/a.db",
            "memory://a",
        ):
            assert redact(text) == text


def test_options_of_a_plugin_hide_secrets_by_themselves():
    @dataclass(frozen=True, kw_only=True)
    class Options(CommonOptions):
        api_token: str | None = None
        other: str = "shown"

    shown = repr(Options(api_token="hunter2"))
    assert "hunter2" not in shown
    assert "api_token=***" in shown
    assert "other='shown'" in shown
    assert "api_token=None" in repr(Options())


@dataclass(frozen=True, kw_only=True)
class MyOptions(CommonOptions):
    prefetch: int = 4
    ratio: float | None = None
    durable: bool = True
    kind: Literal["classic", "quorum"] = "quorum"
    level: Literal[0, 3] = 3
    tags: tuple[str, ...] = ()
    label: str | None = None
    connect_timeout: float = 5.0

    def __post_init__(self):
        super().__post_init__()
        positive("connect_timeout", self.connect_timeout)


@dataclass(frozen=True)
class Required:
    bucket: str


class TestOptions:
    @pytest.mark.parametrize(
        ("query", "values"),
        [
            ("", {"prefetch": 4, "lease": 30.0, "max_message_size": 16 * 1024 * 1024}),
            ("prefetch=7&lease=2.5", {"prefetch": 7, "lease": 2.5}),
            ("ratio=0.5", {"ratio": 0.5}),
            ("ratio=none", {"ratio": None}),
            ("ratio=", {"ratio": None}),
            ("durable=no", {"durable": False}),
            ("durable=TRUE", {"durable": True}),
            ("kind=classic&level=0", {"kind": "classic", "level": 0}),
            ("tags=a,b,%20c", {"tags": ("a", "b", "c")}),
            ("max-message-size=10", {"max_message_size": 10}),
            ("namespace=x&label=y", {"namespace": "x", "label": "y"}),
        ],
    )
    def test_values_have_their_types(self, query, values):
        options = BrokerURL.parse(f"x://h?{query}").options_as(MyOptions)
        assert {name: getattr(options, name) for name in values} == values

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("prefetch=many", r"option prefetch is 'many' in x://h\?prefetch=many; expected a whole number"),
            ("ratio=much", "option ratio is 'much' .*; expected a number or none"),
            ("lease=nan", "option lease is 'nan' .*; expected a number"),
            ("lease=inf", "option lease is 'inf' .*; expected a number"),
            ("durable=perhaps", "option durable is 'perhaps' .*; expected true or false"),
            ("kind=round", "option kind is 'round' .*; expected one of classic, quorum"),
            ("lease=-1", "lease is -1.0; expected a number above 0"),
            ("lease=0", "lease is 0.0; expected a number above 0"),
            ("max_message_size=0", "max_message_size is 0; expected a whole number of at least 1"),
            ("connect_timeout=0", "connect_timeout is 0.0; expected a number above 0"),
            (
                "prefech=1",
                r"option 'prefech' in x://h\?prefech=1 is unknown; did you mean prefetch\? known are: connect_ti",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, query, message):
        with pytest.raises(InvalidOptionError, match=message):
            BrokerURL.parse(f"x://h?{query}").options_as(MyOptions)

    def test_an_option_without_a_default_is_required(self):
        with pytest.raises(InvalidOptionError, match="option bucket is missing in x://h"):
            BrokerURL.parse("x://h").options_as(Required)
        assert BrokerURL.parse("x://h?bucket=b").options_as(Required) == Required("b")

    def test_a_backend_reads_its_options_from_its_config(self):
        config = BackendConfig(BrokerURL.parse("x://h?lease=7"), lambda _, create: create())
        assert config.options_as(CommonOptions).lease == 7


@pytest.fixture
def here(tmp_path):
    return tmp_path


def load(environ=None, directory=Path("/nowhere"), **arguments):
    return Settings.load({"HOME": "/home/me", **(environ or {})}, directory=directory, **arguments)


class TestSettings:
    def test_argument_then_environment_then_file_then_default(self, here):
        (here / "tranship.toml").write_text(
            'broker_url = "redis://file"\nmax-deliveries = 7\nsubmit_timeout = 3\nnamespace = "file"\n'
        )
        environ = {"TRANSHIP_BROKER_URL": "redis://environment", "TRANSHIP_SUBMIT_TIMEOUT": "4"}
        settings = load(environ, here, broker_url="redis://argument", namespace=None)
        rows = {row.name: (row.value, row.origin) for row in settings.rows()}
        assert rows["broker_url"] == ("redis://argument", "argument")
        assert rows["submit_timeout"] == ("4.0", "environment TRANSHIP_SUBMIT_TIMEOUT")
        assert rows["max_deliveries"] == ("7", f"file {here / 'tranship.toml'}")
        assert rows["namespace"] == ("file", f"file {here / 'tranship.toml'}")
        assert rows["max_concurrent_tasks"] == ("10", "default")
        assert settings.origin("broker_url") == "argument"

    def test_the_table_of_pyproject_is_read_when_there_is_no_file_of_our_own(self, here):
        (here / "pyproject.toml").write_text('[tool.tranship]\nbroker_url = "redis://project"\n')
        settings = load(directory=here)
        assert settings.broker_url.host == "project"
        assert settings.origin("broker_url") == f"file {here / 'pyproject.toml'}"
        (here / "tranship.toml").write_text("")
        assert load(directory=here).broker_url.scheme == "sqlite"

    def test_without_anything_the_embedded_file_is_the_broker(self):
        settings = load()
        assert settings.broker_url == default_broker_url({"HOME": "/home/me"})
        assert settings.origin("broker_url") == "default"
        assert settings.result_url is None
        assert settings.result_timeout is None

    def test_an_empty_variable_is_not_set(self):
        assert load({"TRANSHIP_SUBMIT_TIMEOUT": "", "TRANSHIP_BROKER_URL": ""}).submit_timeout == 10.0

    def test_the_process_environment_and_directory_are_the_defaults(self, here, monkeypatch):
        monkeypatch.chdir(here)
        monkeypatch.setenv("TRANSHIP_MAX_DELIVERIES", "9")
        assert Settings.load().max_deliveries == 9

    def test_urls_are_accepted_as_objects(self):
        url = BrokerURL.parse("redis://h")
        assert load(broker_url=url, result_url="redis://r").broker_url is url

    def test_rows_show_no_secret_and_name_the_variable(self):
        rows = load(broker_url="redis://:hunter2@h").rows()
        assert "hunter2" not in repr(rows)
        assert rows[0].variable == "TRANSHIP_BROKER_URL"
        assert "hunter2" not in repr(load(broker_url="redis://:hunter2@h"))

    @pytest.mark.parametrize(
        ("environ", "arguments", "message"),
        [
            ({}, {"brokr_url": "x"}, "setting 'brokr_url' among the arguments is unknown; did you mean broker_url"),
            ({}, {"origins": {}}, "setting 'origins' among the arguments is unknown"),
            ({}, {"max_deliveries": 0}, r"max_deliveries is 0; expected .* \(it comes from: argument\)"),
            ({}, {"max_deliveries": "x"}, "setting max_deliveries is 'x' among the arguments; expected a whole number"),
            ({}, {"max_deliveries": True}, "setting max_deliveries is True"),
            ({}, {"namespace": 3}, "setting namespace is 3 among the arguments; expected a text"),
            ({}, {"broker_url": 3}, "setting broker_url is 3 among the arguments; expected a URL, such as redis://"),
            (
                {"TRANSHIP_SUBMIT_TIMEOUT": "-1"},
                {},
                r"submit_timeout is -1.0; .*\(it comes from: environment TRANSHIP_SUBMIT_TIMEOUT\)",
            ),
            ({"TRANSHIP_SUBMIT_TIMEOUT": "soon"}, {}, "variable TRANSHIP_SUBMIT_TIMEOUT is 'soon' in the environment"),
            ({"TRANSHIP_RESULT_TIMEOUT": "0"}, {}, "result_timeout is 0.0"),
        ],
    )
    def test_a_bad_value_is_named_with_its_origin(self, environ, arguments, message):
        with pytest.raises(InvalidOptionError, match=message):
            load(environ, **arguments)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("tranship.toml", "x = ", "configuration file .*tranship.toml cannot be read"),
            ("tranship.toml", "lease = 3", "setting 'lease' in the file .*tranship.toml is unknown"),
            ("tranship.toml", "namespace = 3", "setting namespace is 3 in the file .*tranship.toml; expected a text"),
            ("pyproject.toml", "[tool]\ntranship = 3", "expected a table"),
        ],
    )
    def test_a_bad_file_is_named(self, here, name, content, message):
        (here / name).write_text(content)
        with pytest.raises(ConfigurationError, match=message):
            load(directory=here)

    def test_a_bad_url_in_the_environment_shows_no_password(self):
        with pytest.raises(InvalidURLError) as caught:
            load({"TRANSHIP_BROKER_URL": "redis://:hunter2@h:x"})
        assert "hunter2" not in str(caught.value)

    def test_the_namespace_goes_to_broker_and_results(self):
        settings = load(broker_url="redis://h?namespace=a&lease=3", namespace="b")
        assert str(settings.broker()) == "redis://h?namespace=b&lease=3"
        assert settings.results() is None
        assert str(load(broker_url="redis://h?namespace=a", result_url="redis://r").broker()) == "redis://h?namespace=a"
        assert str(load(result_url="redis://r", namespace="b").results()) == "redis://r?namespace=b"

    def test_arguments_over_settings(self):
        settings = load({"TRANSHIP_NAMESPACE": "a"}).replace(max_deliveries=2, namespace=None)
        assert (settings.max_deliveries, settings.origin("max_deliveries")) == (2, "argument")
        assert (settings.namespace, settings.origin("namespace")) == ("a", "environment TRANSHIP_NAMESPACE")
        with pytest.raises(InvalidOptionError, match="max_deliveries is 0"):
            settings.replace(max_deliveries=0)


class TestStateFile:
    @pytest.mark.parametrize(
        ("platform", "environ", "path"),
        [
            ("linux", {"HOME": "/h"}, "/h/.local/state/tranship/tranship.db"),
            ("linux", {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/tranship/tranship.db"),
            ("linux", {"HOME": "/h", "XDG_STATE_HOME": "s"}, "/h/.local/state/tranship/tranship.db"),
            ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/tranship/tranship.db"),
            ("win32", {"HOME": "/h", "LOCALAPPDATA": "/l"}, "/l/tranship/tranship.db"),
            ("win32", {"HOME": "/h"}, "/h/AppData/Local/tranship/tranship.db"),
        ],
    )
    def test_every_platform_has_its_place(self, monkeypatch, platform, environ, path):
        monkeypatch.setattr("sys.platform", platform)
        assert state_file(environ) == Path(path)

    def test_the_default_url_is_the_state_file(self):
        url = default_broker_url({"HOME": "/my home"})
        assert url.scheme == "sqlite"
        assert url.database == state_file({"HOME": "/my home"}).as_posix()
        assert BrokerURL.parse(str(url)) == url

    def test_without_home_the_system_is_asked(self):
        assert state_file({}).is_relative_to(Path(os.path.expanduser("~")))  # noqa: PTH111


class TestTaskRoutes:
    @pytest.mark.parametrize(
        "given", ["shop.resize=media, shop.*=celery", '{"shop.resize": "media", "shop.*": {"queue": "celery"}}']
    )
    def test_names_go_before_patterns(self, given: str) -> None:
        routes = TaskRoutes.parse(given)
        asked = ("shop.resize", "shop.add", "other")
        assert [routes.queue_of(name) for name in asked] == ["media", "celery", None]

    def test_the_first_pattern_that_fits_counts(self) -> None:
        assert TaskRoutes.parse("a.*=one,a.b*=two").queue_of("a.bc") == "one"

    def test_a_table_of_the_file_and_a_variable(self, tmp_path: Path) -> None:
        (tmp_path / "tranship.toml").write_text('[task_routes]\n"shop.*" = "celery"\n')
        assert Settings.load({}, directory=tmp_path).task_routes.queue_of("shop.add") == "celery"
        environ = {"TRANSHIP_TASK_ROUTES": "shop.*=media"}
        settings = Settings.load(environ, directory=tmp_path)
        assert settings.task_routes.queue_of("shop.add") == "media"
        assert [row.value for row in settings.rows() if row.name == "task_routes"] == ["shop.*=media"]
        assert not Settings.load({}, directory=tmp_path / "none").task_routes

    @pytest.mark.parametrize("given", ["shop", "=q", "a=", '{"a": 5}', '["a"]', "{", '{"a": {"exchange": "x"}}'])
    def test_what_is_no_route_is_named(self, given: str) -> None:
        with pytest.raises(InvalidOptionError, match=r"task_routes is .*expected names or patterns"):
            Settings.load({"TRANSHIP_TASK_ROUTES": given})
