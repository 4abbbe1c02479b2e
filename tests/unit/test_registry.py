"""The registry, with real distributions and real entry points in a directory on the import path."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import pytest

from tranship.driver import DriverBackend
from tranship.errors import InvalidOptionError, InvalidURLError, PluginError, UnknownSchemeError
from tranship.hookspecs import API_VERSION, BackendSpec, hookimpl
from tranship.registry import PluginState, Registry

BACKEND = """
    class {name}:
        def __init__(self, config):
            self.config = config
"""
PLUGIN = """
    from tranship.hookspecs import BackendSpec, hookimpl

    @hookimpl
    def tranship_register_backends(register):
        register(BackendSpec(name="{name}", schemes=("{scheme}",), factory="{module}_backend:Backend", {more}))
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A directory like site-packages; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


class Site:
    def __init__(self, path):
        self.path = path

    def distribution(self, name, *, version="1.2", **entry_points):
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "".join(f"{entry} = {target}\n" for entry, target in entry_points.items())
        (info / "entry_points.txt").write_text(f"[tranship]\n{lines}")
        importlib.invalidate_caches()

    def module(self, name, code):
        (self.path / f"{name}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    def plugin(self, name, scheme=None, *, more=""):
        """A complete plugin distribution ``tranship-<name>`` with a backend class."""
        module = f"fake_{name}"
        self.module(module, PLUGIN.format(name=name, scheme=scheme or name, module=module, more=more))
        self.module(f"{module}_backend", BACKEND.format(name="Backend"))
        self.distribution(f"tranship-{name}", **{name: module})


def registry(**environ):
    return Registry(environ=environ)


def status(registry, name):
    (found,) = (plugin for plugin in registry.plugins() if plugin.name == name)
    return found


class TestBuiltins:
    def test_they_come_through_the_hook(self):
        builtin = Registry(entry_points=False, environ={}).plugins()[0]
        assert (builtin.name, builtin.state) == ("builtin", PluginState.LOADED)
        assert [spec.name for spec in builtin.backends] == ["memory", "sqlite", "routing"]

    def test_they_are_opened_by_url(self):
        made = Registry(entry_points=False, environ={})
        assert made.schemes() == ("failover", "memory", "round-robin", "sqlite")
        assert type(made.create("memory://")) is DriverBackend
        assert type(made.create("sqlite:///x.db")).__name__ == "DriverBackend"

    def test_a_bad_url_or_option_is_said(self):
        made = Registry(entry_points=False, environ={})
        with pytest.raises(InvalidURLError):
            made.create("memory")
        with pytest.raises(InvalidOptionError, match="option 'leese' in memory:"):
            made.create("memory://?leese=3")


class TestInstalled:
    def test_a_plugin_serves_its_scheme(self, site):
        site.plugin("good", more='summary="fine"')
        made = registry()
        backend = made.create("good://host?lease=3")
        assert type(backend).__module__ == "fake_good_backend"
        assert backend.config.url.host == "host"
        found = status(made, "good")
        assert (found.distribution, found.version, found.state) == ("tranship-good", "1.2", PluginState.LOADED)
        assert (found.backends[0].summary, found.error) == ("fine", None)
        assert found.label == "good (tranship-good 1.2)"

    def test_its_backend_is_imported_only_when_it_is_used(self, site):
        site.plugin("lazy")
        made = registry()
        assert "lazy" in made.schemes()
        assert "fake_lazy_backend" not in sys.modules
        made.create("lazy://")
        assert "fake_lazy_backend" in sys.modules

    def test_one_that_cannot_be_imported_harms_nobody(self, site, caplog):
        site.plugin("good")
        site.module("fake_broken", "import no_such_library")
        site.distribution("tranship-broken", broken="fake_broken")
        made = registry()
        assert made.create("good://")
        found = status(made, "broken")
        assert found.state is PluginState.FAILED
        assert "No module named 'no_such_library'" in str(found.error)
        assert isinstance(found.error.__cause__, ImportError)
        assert "plugin broken (tranship-broken 1.2) was not loaded" in caplog.text
        with pytest.raises(PluginError, match=r"'broken' needs plugin broken \(tranship-broken 1.2\).*no_such_library"):
            made.create("broken://")
        with pytest.raises(UnknownSchemeError, match=r"Not loaded, see `tranship plugins`: broken \(tranship-broken"):
            made.create("other://")

    @pytest.mark.parametrize("crash", ["raise KeyError('x')", "raise SystemError", "1/0", "def ("])
    def test_whatever_its_import_raises_is_kept(self, site, crash):
        site.module("fake_broken", crash)
        site.distribution("tranship-broken", broken="fake_broken")
        assert status(registry(), "broken").state is PluginState.FAILED

    def test_a_plugin_that_crashes_in_its_hook_is_isolated(self, site):
        site.module("fake_hook", PLUGIN.format(name="hook", scheme="hook", module="fake_hook", more="what=1"))
        site.distribution("tranship-hook", hook="fake_hook")
        site.plugin("good")
        made = registry()
        assert made.create("good://")
        assert "plugin hook (tranship-hook 1.2) is broken: TypeError" in str(status(made, "hook").error)

    def test_a_misspelt_hook_is_reported_with_the_right_name(self, site):
        site.module(
            "fake_misspelt",
            "from tranship.hookspecs import hookimpl\n@hookimpl\ndef tranship_register_backend(register): pass\n",
        )
        site.distribution("tranship-misspelt", misspelt="fake_misspelt")
        site.plugin("good")
        made = registry()
        error = str(status(made, "misspelt").error)
        assert "unknown hook 'tranship_register_backend'" in error
        assert "did you mean tranship_register_backends?" in error
        assert status(made, "good").state is PluginState.LOADED

    def test_a_plugin_without_a_marked_hook_is_reported(self, site):
        site.module("fake_bare", "def tranship_register_backends(register): pass\n")
        site.distribution("tranship-bare", bare="fake_bare")
        assert "implements no hook of tranship" in str(status(registry(), "bare").error)

    @pytest.mark.parametrize("version", [(API_VERSION[0] + 1, 0), (API_VERSION[0] - 1, 9)])
    def test_another_api_major_is_refused_with_both_versions(self, site, version):
        site.plugin("other", more=f"api_version={version}")
        made = registry()
        found = status(made, "other")
        assert found.state is PluginState.FAILED
        theirs, ours = (re.escape(".".join(map(str, one))) for one in (version, API_VERSION))
        cure = "upgrade tranship" if version > API_VERSION else "upgrade the plugin"
        with pytest.raises(PluginError, match=rf"other \(tranship-other 1.2\).*API version {theirs}.*{ours}; {cure}"):
            made.create("other://")

    def test_a_newer_minor_is_warned_about(self, site, caplog):
        site.plugin("newer", more=f"api_version=({API_VERSION[0]}, {API_VERSION[1] + 1})")
        assert registry().create("newer://")
        assert "made for a newer tranship" in caplog.text

    def test_a_backend_that_cannot_be_imported_says_what_to_install(self, site):
        site.plugin("needy", more='requirement="needy-client>=2"')
        site.module("fake_needy_backend", "import no_such_library")
        with pytest.raises(
            PluginError, match=r"needy.*No module named 'no_such_library'; pip install 'needy-client>=2'"
        ):
            registry().create("needy://")

    def test_a_factory_that_is_not_there_is_said(self, site):
        site.plugin("gone")
        site.module("fake_gone_backend", "")
        with pytest.raises(PluginError, match="cannot be imported: module 'fake_gone_backend' has no attribute"):
            registry().create("gone://")


class TestCollisions:
    def test_a_scheme_that_is_yielded_goes_to_whoever_else_serves_it(self, site):
        site.plugin("bridge", "wide", more='yields=("wide",)')
        assert type(registry().create("wide://")).__module__ == "fake_bridge_backend"
        site.plugin("own", "wide")
        assert type(registry().create("wide://")).__module__ == "fake_own_backend"
        preferred = registry(TRANSHIP_PLUGINS_PREFER="bridge").create("wide://")
        assert type(preferred).__module__ == "fake_bridge_backend"

    def test_two_claims_of_one_scheme_are_an_error_naming_both_when_it_is_used(self, site):
        site.plugin("one", "same")
        site.plugin("two", "same")
        made = registry()
        assert made.create("memory://")
        with pytest.raises(PluginError, match=r"one \(tranship-one 1.2\) and two \(tranship-two 1.2\).*_PREFER=two"):
            made.create("same://")

    @pytest.mark.parametrize("preferred", ["two", "tranship-two", "Tranship_Two", "none, two"])
    def test_the_operator_decides(self, site, preferred):
        site.plugin("one", "same")
        site.plugin("two", "same")
        backend = registry(TRANSHIP_PLUGINS_PREFER=preferred).create("same://")
        assert type(backend).__module__ == "fake_two_backend"

    def test_a_built_in_is_not_taken_over_silently(self, site):
        site.plugin("mine", "sqlite")
        with pytest.raises(PluginError, match=r"builtin \(tranship\) and mine"):
            registry().create("sqlite://")
        assert registry(TRANSHIP_PLUGINS_PREFER="mine").create("sqlite://").config

    def test_one_made_for_another_api_does_not_count(self, site):
        site.plugin("old", "same", more="api_version=(0, 9)")
        site.plugin("now", "same")
        assert type(registry().create("same://")).__module__ == "fake_now_backend"


class TestSelection:
    @pytest.mark.parametrize(
        ("environ", "loaded"),
        [
            ({}, {"one", "two"}),
            ({"TRANSHIP_LOAD_PLUGINS": ""}, set()),
            ({"TRANSHIP_LOAD_PLUGINS": "one"}, {"one"}),
            ({"TRANSHIP_LOAD_PLUGINS": "one, tranship_two"}, {"one", "two"}),
            ({"TRANSHIP_BLOCK_PLUGINS": "one"}, {"two"}),
            ({"TRANSHIP_BLOCK_PLUGINS": "tranship-one,two"}, set()),
            ({"TRANSHIP_LOAD_PLUGINS": "one,two", "TRANSHIP_BLOCK_PLUGINS": "two"}, {"one"}),
        ],
    )
    def test_the_operator_chooses(self, site, environ, loaded):
        site.plugin("one")
        site.plugin("two")
        made = registry(**environ)
        assert {"one", "two"} & set(made.schemes()) == loaded
        assert {"memory", "sqlite"} <= set(made.schemes())
        for name in ("one", "two"):
            assert status(made, name).state is (PluginState.LOADED if name in loaded else PluginState.BLOCKED)

    def test_what_is_blocked_is_not_imported_and_says_so(self, site):
        site.plugin("one")
        with pytest.raises(PluginError, match=r"'one' needs plugin one .*blocked by TRANSHIP_BLOCK_PLUGINS"):
            registry(TRANSHIP_BLOCK_PLUGINS="one").create("one://")
        assert "fake_one" not in sys.modules

    def test_a_name_that_nobody_has_is_reported(self, site):
        site.plugin("one")
        found = status(registry(TRANSHIP_LOAD_PLUGINS="one,missing"), "missing")
        assert found.state is PluginState.MISSING
        assert "not installed" in str(found.error)

    def test_the_process_environment_is_the_default(self, site, monkeypatch):
        site.plugin("one")
        monkeypatch.setenv("TRANSHIP_BLOCK_PLUGINS", "one")
        assert "one" not in Registry().schemes()

    def test_what_is_installed_or_removed_meanwhile_is_seen_by_the_next(self, site):
        site.plugin("one")
        assert "late" not in Registry().schemes()
        site.plugin("late")
        assert {"one", "late"} <= set(Registry().schemes())
        shutil.rmtree(site.path / "tranship_one-1.2.dist-info")
        assert "one" not in Registry().schemes()
        assert "late" in Registry().schemes()

    def test_distributions_are_read_once(self, site):
        site.plugin("one")
        # The first one imports the plugin, and its byte code is put beside it: something has changed there.
        Registry()
        Registry()
        opened = []
        profile = sys.getprofile()
        sys.setprofile(lambda _frame, event, what: opened.append(what) if event == "c_call" else None)
        try:
            assert "one" in Registry().schemes()
        finally:
            sys.setprofile(profile)
        assert opened
        assert open not in opened
        assert os.scandir not in opened

    def test_entry_points_can_be_left_out(self, site):
        site.plugin("one")
        assert "one" not in Registry(entry_points=False, environ={}).schemes()


class TestUnknownSchemes:
    @pytest.mark.parametrize(
        ("url", "meant"),
        [
            ("redis+socket:///run/redis.sock", "unix"),
            ("pyamqp://localhost", "amqp"),
            ("amqp+ssl://localhost", "amqps"),
            ("db+sqlite:///jobs.db", "sqlite"),
            ("redis+tls://localhost", "rediss"),
        ],
    )
    def test_celerys_word_for_what_is_served_is_told_ours(self, url, meant):
        installed = Registry(environ={"TRANSHIP_BLOCK_PLUGINS": "kombu"})
        with pytest.raises(UnknownSchemeError, match=f"no plugin serves the scheme '.*': write {meant}://") as caught:
            installed.create(url)
        written = str(caught.value).partition("write ")[2].split()[0]
        assert installed.create(written)

    @pytest.mark.parametrize("url", ["kombu+sqs://", "sentinel://localhost", "mongodb+srv://x", "db+postgresql://x"])
    def test_what_the_bridge_serves_says_how_to_get_it(self, url):
        with pytest.raises(UnknownSchemeError, match=r"To add it, .*pip install \./plugins/tranship-kombu$"):
            Registry(entry_points=False).create(url)
        with pytest.raises(PluginError, match=r"needs plugin kombu.*blocked by TRANSHIP_BLOCK_PLUGINS"):
            Registry(environ={"TRANSHIP_BLOCK_PLUGINS": "kombu"}).create(url)

    @pytest.mark.parametrize("url", ["redis+cluster://", "dynamodb://localhost", "cassandra://x", "mysql://x"])
    def test_what_nothing_serves_is_not_guessed_at(self, url):
        said = r"tranship does not speak to that; use redis://, amqp://, nats:// or sqlite:///$"
        with pytest.raises(UnknownSchemeError, match=said):
            Registry().create(url)

    @pytest.mark.parametrize(
        ("scheme", "plugin"),
        [
            ("redis", "redis"),
            ("rediss", "redis"),
            ("unix", "redis"),
            ("amqp", "rabbitmq"),
            ("amqps", "rabbitmq"),
            ("nats", "nats"),
        ],
    )
    def test_the_error_says_what_to_install(self, scheme, plugin):
        with pytest.raises(
            UnknownSchemeError,
            match=rf"known are: failover, memory, round-robin, sqlite\. .*in a clone of tranship: pip install \./plugins/tranship-{plugin}$",
        ):
            Registry(entry_points=False, environ={}).create(f"{scheme}://host")

    @pytest.mark.parametrize(("typo", "meant"), [("sqlit", "sqlite"), ("memoy", "memory"), ("redsi", "redis")])
    def test_a_typo_is_recognised(self, typo, meant):
        with pytest.raises(UnknownSchemeError, match=f"did you mean '{meant}'"):
            Registry(entry_points=False, environ={}).create(f"{typo}://")

    def test_a_plugin_that_failed_is_the_reason(self, site):
        site.module("fake_redis", "import no_such_library")
        site.distribution("tranship-redis", redis="fake_redis")
        with pytest.raises(PluginError, match=r"'rediss' needs plugin redis \(tranship-redis 1.2\)") as caught:
            registry().create("rediss://:hunter2@h")
        assert "hunter2" not in str(caught.value)


SPEC = BackendSpec(name="mine", schemes=("mine",), factory="tranship.backends.memory:make_backend")


class Plugin:
    """A plugin without a distribution."""

    def __init__(self, *specs):
        self.specs = specs

    @hookimpl
    def tranship_register_backends(self, register):
        for spec in self.specs:
            register(spec)


@pytest.fixture
def bare():
    return Registry(entry_points=False, environ={})


class TestRegister:
    def test_a_spec(self, bare):
        bare.register(SPEC)
        assert type(bare.create("mine://")) is DriverBackend
        assert status(bare, "mine").distribution == ""

    def test_an_object_with_hooks(self, bare):
        bare.register(Plugin(SPEC), name="object")
        assert type(bare.create("mine://")) is DriverBackend
        assert status(bare, "object").backends == (SPEC,)

    def test_registries_know_nothing_of_each_other(self, bare):
        bare.register(SPEC)
        assert "mine" not in Registry(entry_points=False, environ={}).schemes()

    @pytest.mark.parametrize(
        ("plugin", "why"),
        [
            (BackendSpec("m", ("sqlite",), "a:B"), r"'sqlite' is claimed by builtin \(tranship\) and m"),
            (BackendSpec("m", ("m",), "a:B", api_version=(9, 0)), "upgrade tranship"),
            (BackendSpec("m", (), "a:B"), r"has schemes \(\)"),
            (BackendSpec("m", "m", "a:B"), "has schemes 'm'; expected a tuple"),
            (BackendSpec("m", ("M!",), "a:B"), "has schemes"),
            (BackendSpec("m", ("m",), "a.B"), "has factory 'a.B'; expected 'package.module:Class'"),
            (Plugin("mine"), "register was called with 'mine'; expected a tranship.hookspecs.BackendSpec"),
            (Plugin(BackendSpec("m", ("memory",), "a:B")), "'memory' is claimed by builtin"),
            (object(), "implements no hook"),
        ],
    )
    def test_what_cannot_be_is_refused_at_once_and_leaves_nothing_behind(self, bare, plugin, why):
        for _ in range(2):
            with pytest.raises(PluginError, match=why):
                bare.register(plugin)
        assert len(bare.plugins()) == 1
        assert bare.schemes() == ("failover", "memory", "round-robin", "sqlite")

    def test_state_is_shared_by_the_backends_of_one_registry(self, bare):
        made = []

        def keep(config):
            made.append(config.shared("key", object))

        module = type(sys)("fake_shared_backend")
        module.keep = keep
        sys.modules["fake_shared_backend"] = module
        try:
            bare.register(BackendSpec("keep", ("keep",), "fake_shared_backend:keep"))
            threads = [threading.Thread(target=bare.create, args=("keep://",)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(made) == 8
            assert len(set(made)) == 1
            bare.create("keep://", shared=lambda _, create: create())
            assert made[-1] is not made[0]
        finally:
            del sys.modules["fake_shared_backend"]


def test_importing_the_registry_loads_neither_pluggy_nor_metadata():
    code = (
        "import sys, tranship.registry, tranship.hookspecs\n"
        "print([name for name in ('pluggy', 'importlib.metadata', 'sqlite3', 'tomllib', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
