"""What plugins bring beside backends: found, imported late, and named when it is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tranship import AsyncClient, Client, Middleware, RetryPolicy, TaskError, Worker, codec, named, task
from tranship.errors import EncodeError, InvalidOptionError, MalformedMessage, PluginError, UnsupportedError
from tranship.hookspecs import (
    API_VERSION,
    HOOKS,
    BackendSpec,
    ClassifierSpec,
    CodecSpec,
    CommandSpec,
    MiddlewareSpec,
    PluginPart,
    ResultStoreSpec,
    hookimpl,
)
from tranship.registry import Registry
from tranship.testing.background import BackgroundWorker
from tranship.testing.conformance import as_if_installed


@contextmanager
def module(name: str, **members: Any) -> Iterator[None]:
    """Have a module that a plugin's description can name."""
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    try:
        yield
    finally:
        del sys.modules[name]


@pytest.fixture
def registry() -> Registry:
    return Registry(entry_points=False, environ={})


class Noting(Middleware):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def submit(self, envelope, call_next):
        self.log.append(f"{self.name} submits")
        return await call_next(envelope)

    async def run(self, call, call_next):
        self.log.append(f"{self.name} runs")
        return await call_next(call)


@task(name="parts.add", queue="q")
def add(a: int, b: int) -> int:
    return a + b


@task(name="parts.fail", queue="q", retry=RetryPolicy(max_attempts=2))
def fail(kind: str) -> None:
    raise {"busy": ConnectionResetError("busy"), "other": LookupError("other"), "ours": TaskError("ours")}[kind]


@pytest.mark.parametrize("client_of", [Client, AsyncClient], ids=["blocking", "async"])
async def test_middleware_of_plugins_is_around_that_of_the_application(registry: Registry, client_of: type) -> None:
    log: list[str] = []
    made = {name: (lambda name=name: Noting(name, log)) for name in ("first", "second")}
    with module("parts_middleware", **made):
        for name in made:
            registry.register(MiddlewareSpec(name, f"parts_middleware:{name}"))
        own = [Noting("own", log)]
        url = f"memory://parts-{client_of.__name__}"
        with BackgroundWorker(Worker(url, tasks=[add], result_url=url, middleware=own, registry=registry)):
            client = client_of(url, result_url=url, middleware=own, registry=registry)
            if client_of is Client:
                with client:
                    assert client.submit(add, 1, 2).result(20) == 3
            else:
                async with client:
                    assert await (await client.submit(add, 1, 2)).result(20) == 3
    order = ["first", "second", "own"]
    assert log == [f"{name} submits" for name in order] + [f"{name} runs" for name in order]


def test_a_classifier_says_what_an_exception_means(registry: Registry) -> None:
    asked: list[str] = []

    def broken(error: BaseException) -> None:
        raise RuntimeError("the classifier's own")

    def classify(error: BaseException) -> BaseException | None:
        asked.append(type(error).__name__)
        if isinstance(error, ConnectionResetError):
            return TaskError(f"the shop is {error}", code="BUSY", retryable=False)
        return None

    url = "memory://parts-classified"
    with module("parts_classifiers", broken=broken, classify=classify):
        registry.register(ClassifierSpec("broken", "parts_classifiers:broken"))
        registry.register(ClassifierSpec("shop", "parts_classifiers:classify"))
        worker = Worker(url, tasks=[fail], result_url=url, registry=registry)
        with BackgroundWorker(worker), Client(url, result_url=url, registry=registry) as client:
            errors = {kind: client.submit(fail, kind).wait(20).error for kind in ("busy", "other", "ours")}
    assert errors["busy"] is not None
    assert (errors["busy"].code, errors["busy"].retryable, errors["busy"].message) == (
        "BUSY",
        False,
        "the shop is busy",
    )
    assert "ConnectionResetError" in (errors["busy"].traceback or "")
    assert errors["other"] is not None
    assert errors["other"].type == "builtins.LookupError"
    # Not retried, because it means that it is no use; the other is, and each of its attempts is asked about.
    assert asked == ["ConnectionResetError", "LookupError", "LookupError"]


def test_a_codec_writes_and_reads_the_arguments(registry: Registry) -> None:
    def dumps(value: Any) -> bytes:
        if "odd" in repr(value):
            raise OverflowError("too odd")
        return repr(value).encode()

    def loads(data: bytes) -> Any:
        import ast

        return ast.literal_eval(data.decode())

    url, kind = "memory://parts-codec", "application/x-parts"
    odd = add.options(serializer=kind)
    with pytest.raises(
        InvalidOptionError, match="cannot be written; use 'application/json' or 'application/x-msgpack'"
    ):
        codec.dumps([], kind)
    with module("parts_codec", dumps=dumps, loads=loads):
        registry.register(CodecSpec("parts", kind, "parts_codec"))
        worker = Worker(url, tasks=[add], result_url=url, registry=registry)
        with BackgroundWorker(worker), Client(url, result_url=url, registry=registry) as client:
            assert client.submit(odd, 40, b=2).result(20) == 42
            with pytest.raises(EncodeError, match="application/x-parts: OverflowError: too odd"):
                client.submit(named("parts.any", queue="q", serializer=kind), "odd")
        with pytest.raises(MalformedMessage, match="application/x-parts that cannot be read: SyntaxError"):
            codec.loads(b"[", kind)
        assert codec.content_encoding_of(kind) == "binary"


def test_a_result_store_is_no_broker(registry: Registry) -> None:
    registry.register(ResultStoreSpec("shelf", ("shelf",), "tranship.backends.memory:make_backend"))
    with pytest.raises(UnsupportedError, match="shelf://x keeps results and takes no tasks; give it as result_url"):
        registry.create("shelf://x")
    with pytest.raises(UnsupportedError, match="takes no tasks"), Client("shelf://x", registry=registry) as client:
        client.submit(add, 1, 2)
    assert "shelf" in registry.schemes()


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (MiddlewareSpec("m", "nowhere"), "middleware m has factory 'nowhere'; expected 'package.module:make'"),
        (ClassifierSpec("c", "a b"), "classifier c has function 'a b'"),
        (CommandSpec("Stock!", "a:b"), "command 'Stock!' has no name for a shell"),
        (CommandSpec("stock", "a"), "command stock has target 'a'"),
        (CodecSpec("c", "application/json", "a"), "codec c has content type 'application/json'; expected one"),
        (CodecSpec("c", "application/x-python-serialize", "a"), "nothing that runs what it reads"),
        (CodecSpec("c", "cbor", "a"), "codec c has content type 'cbor'"),
        (ResultStoreSpec("r", (), "a:b"), "result store r has schemes"),
        (ClassifierSpec("c", "a:b", api_version=(1, 0)), "classifier c speaks API version 1.0"),
    ],
    ids=lambda value: value.name if not isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(registry: Registry, part: PluginPart, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        registry.register(part)
    assert len(registry.plugins()) == 1


def test_a_hook_is_given_its_own_kind_of_description(registry: Registry) -> None:
    class Wrong:
        @hookimpl
        def tranship_register_middleware(self, register):
            register(BackendSpec("m", ("m",), "a:b"))

    with pytest.raises(PluginError, match=r"expected a tranship.hookspecs.MiddlewareSpec"):
        registry.register(Wrong())


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:make", "middleware m of plugin m cannot be imported: No module named 'no_such_module'"),
        ("parts_bad:fails", "cannot be made: ValueError: no tenant; TRANSHIP_BLOCK_PLUGINS=m leaves it out"),
        ("parts_bad:other", "gives 7; expected an object of a subclass of Middleware"),
    ],
    ids=["import", "raises", "something-else"],
)
def test_a_middleware_that_is_not_there_stops_who_would_do_without(registry: Registry, target: str, says: str) -> None:
    def fails() -> None:
        raise ValueError("no tenant")

    registry.register(MiddlewareSpec("m", target))
    with module("parts_bad", fails=fails, other=lambda: 7), pytest.raises(PluginError, match=says):
        Client("memory://parts-bad", registry=registry).open()


def test_every_hook_has_a_description_and_a_version() -> None:
    for kind in HOOKS.values():
        assert kind.__doc__
        assert kind._field_defaults["api_version"] == API_VERSION


COMMANDS = """
from tranship.hookspecs import CommandSpec, hookimpl

@hookimpl
def tranship_register_commands(register):
    register(CommandSpec("stock", "stock_command:stock", "Say what is in stock."))
    register(CommandSpec("broken-one", "no_such_module:app", "Never there."))
    register(CommandSpec("queues", "stock_command:stock", "Not ours."))
"""
COMMAND = """
print("imported")

def stock(item: str, count: int = 1) -> None:
    if item == "fail":
        raise LookupError("nothing of it")
    print(f"{count} of {item}")
"""


@pytest.fixture
def tranship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the program where a plugin with commands is installed."""
    (tmp_path / "stock_plugin.py").write_text(COMMANDS)
    (tmp_path / "stock_command.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    with as_if_installed(["stock_plugin"]):
        path = ":".join(filter(None, sys.path))
        monkeypatch.setenv("PYTHONPATH", path)

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = (sys.executable, "-m", "tranship", *arguments)
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

        yield run
    sys.modules.pop("stock_plugin", None)


def test_a_command_of_a_plugin(tranship) -> None:
    assert tranship("stock", "tea", "--count", "3").stdout.split("\n")[:2] == ["imported", "3 of tea"]
    listed = tranship("plugins").stdout
    assert "Say what is in stock." in listed
    assert "imported" not in listed, "a list of commands imports none of them"
    assert "--count" in tranship("stock", "--help").stdout
    for arguments, code, says in (
        (["stock"], 2, "Missing argument"),
        (["stock", "fail"], 1, "unexpected LookupError: nothing of it"),
        (["broken-one"], 2, "command broken-one of plugin stock_plugin (uninstalled-0 0) cannot be imported"),
        (["stok"], 2, "No such command 'stok'"),
    ):
        done = tranship(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert says in done.stderr
    assert "Not ours." not in tranship("queues", "--help").stdout


@pytest.mark.parametrize("command", ["config", "--help"])
def test_our_own_commands_ask_no_plugin(command: str) -> None:
    script = textwrap.dedent(
        """
        import sys
        from tranship.cli import _app
        try:
            _app.app([sys.argv[1]], prog_name="tranship")
        except SystemExit:
            pass
        print([name for name in ("pluggy", "tranship.registry._host") if name in sys.modules])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
