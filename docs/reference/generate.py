"""Fill the generated parts of the reference from the code: ``python docs/reference/generate.py``.

A part stands between ``<!-- generated: name -->`` and ``<!-- end -->``. A test checks that all are current.
"""

from __future__ import annotations

import ast
import enum
import importlib.util
import inspect
import re
import sys
import textwrap
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ORDER = ("memory", "sqlite", "redis", "rabbitmq", "nats", "example")
"""Of the backends in tables."""
PART = re.compile(r"(<!-- generated: ([\w.:-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def markdown(text: str) -> str:
    """Docstrings are in reStructuredText; little of it is used."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{found[1].rsplit('.', 1)[-1]}`", " ".join(text.split()))
    return text.replace("``", "`")


def first_paragraph(thing: Any) -> str:
    return markdown(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0])


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstrings below the attributes of ``cls``, and of what it inherits."""
    docs: dict[str, str] = {}
    for owner in [owner for owner in reversed(cls.__mro__) if owner.__module__.startswith(("tranship.", "tranship_"))]:
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        docs.update(found for this, following in pairwise(body) if (found := _documented(this, following)))
    return docs


def _documented(this: ast.stmt, following: ast.stmt) -> tuple[str, str] | None:
    targets = [this.target] if isinstance(this, ast.AnnAssign) else getattr(this, "targets", [])
    names = [one.id for one in targets if isinstance(one, ast.Name)]
    text = getattr(getattr(following, "value", None), "value", None) if isinstance(following, ast.Expr) else None
    return (names[0], markdown(text)) if names and isinstance(text, str) else None


def default_of(part: Any) -> str:
    if part.default is not MISSING:
        return shown_value(part.default)
    return "" if part.default_factory is MISSING else "empty"


def shown_value(value: Any) -> str:
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "its defaults"
    return f"`{value}`" if isinstance(value, enum.StrEnum) else f"`{getattr(value, 'label', value)!r}`"


def argument_docs(cls: type) -> Iterator[tuple[str, str]]:
    """Yield what the docstring of ``cls`` says of arguments, several by their names where it does."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    for names, text in re.findall(r"^    ([\w, ]+): ((?:.+\n?(?!    \w))*.+)", section, re.MULTILINE):
        yield names, markdown(text)


# --- parts ---


def arguments(cls: type) -> str:
    parameters = inspect.signature(cls).parameters
    rows = []
    for names, text in argument_docs(cls):
        several = names.split(", ")
        default = parameters[several[0]].default
        shown = "" if default is inspect.Parameter.empty else f"`{default!r}`"
        rows.append([", ".join(f"`{name}`" for name in several), shown, text])
    return table(["argument", "default", ""], iter(rows))


def options(cls: type, *, without: Sequence[str] = ()) -> str:
    docs = field_docs(cls)
    shown = [one for one in fields(cls) if one.name not in without]
    return table(
        ["option", "default", ""], ([f"`{one.name}`", default_of(one), docs.get(one.name, "")] for one in shown)
    )


def settings() -> str:
    from tranship.settings import Settings

    docs = field_docs(Settings)
    rows = (
        [
            f"`{one.name}`",
            default_of(one) or "the default file",
            f"`TRANSHIP_{one.name.upper()}`",
            docs.get(one.name, ""),
        ]
        for one in fields(Settings)
        if one.name != "origins"
    )
    return table(["setting", "default", "variable", ""], rows)


def errors(module: Any) -> str:
    from tranship.errors import TranshipError

    found = [getattr(module, name) for name in module.__all__]
    kinds = [one for one in found if isinstance(one, type) and issubclass(one, TranshipError)]
    rows = (
        [f"`{kind.__name__}`", f"`{kind.code}`", "yes" if kind.retryable else "no", first_paragraph(kind)]
        for kind in sorted(kinds, key=lambda kind: kind.__name__)
    )
    return table(["error", "`code`", "`retryable`", ""], rows)


def error_codes() -> str:
    from tranship import error_codes as codes

    told = dict(
        _documented(this, following) or ("", "")
        for this, following in pairwise(ast.parse(inspect.getsource(codes)).body)
    )
    named = [name for name in told if name.endswith("_ERROR")]
    rows = ([f"`{name}`", "yes" if name in codes.FINAL_CODES else "no", told[name]] for name in named)
    return table(["code", "final", ""], rows)


def error_tree() -> str:
    from tranship import errors

    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    return f"```text\n{textwrap.dedent(tree)}\n```\n"


def reasons() -> str:
    from tranship.task import CancelReason

    docs = field_docs(CancelReason)
    return table(["`cancel_reason`", ""], ([f"`{one.value}`", docs.get(one.name, "")] for one in CancelReason))


def states() -> str:
    from tranship.envelope import TaskState

    docs = field_docs(TaskState)
    rows = ([f"`{one}`", "yes" if one.terminal else "", docs.get(one.name, "")] for one in TaskState)
    return table(["state", "terminal", ""], rows)


def methods(cls: type) -> str:
    rows = (_method_row(*one) for owner in _halves(cls) for one in vars(owner).items() if not one[0].startswith("_"))
    return table(["", ""], (row for row in rows if row))


def _halves(cls: type) -> Iterator[type]:
    """The class, and what it inherits that no page has by itself."""
    import tranship

    yield cls
    for owner in cls.__mro__[1:]:
        if owner.__module__.startswith("tranship.") and owner.__name__ not in tranship.__all__:
            yield owner


def _method_row(name: str, member: Any) -> Sequence[str]:
    if isinstance(member, property):
        return [f"`{name}`", first_paragraph(member)]
    if not inspect.isfunction(member):
        return []
    signature = inspect.signature(member)
    parameters = [one.replace(annotation=one.empty) for one in list(signature.parameters.values())[1:]]
    shown = str(signature.replace(parameters=parameters, return_annotation=signature.empty)).replace("(/, ", "(")
    shown = re.sub(r"<\w+\.\w+: ('\w+')>", r"\1", shown)
    return [f"`{name}{shown}`", first_paragraph(member)]


def capabilities() -> str:
    from tranship.ports import Capability

    docs, found = field_docs(Capability), reports()
    rows = (
        [f"`{one.value}`", *(_support(report.capabilities[one]) for report in found), docs.get(one.name, "")]
        for one in Capability
    )
    head = ["capability", *(report.backend for report in found), ""]
    return re.sub(r" \[\w+\]", "", table(head, rows))


def kept() -> str:
    """What the conformance runs found, by the capability that a case needs."""
    from tranship.ports import Capability
    from tranship.testing import suites
    from tranship.testing.case import cases_of

    found = reports()
    known = [getattr(suites, name) for name in suites.__all__]
    needs = {one.id: one.needs for one in cases_of(*(suite for suite in known if isinstance(suite, type)))}
    wanted: list[tuple[str, Capability | None]] = [("every backend", None)]
    wanted += [(f"`{one.value}`", one) for one in Capability if any(one in need for need in needs.values())]
    rows = ([name, *(_counted(report, needs, one) for report in found)] for name, one in wanted)
    return table(["cases for", *(report.backend for report in found)], rows)


def tiers_kept() -> str:
    """Which tier each backend declares all of, and what it lacks of the next ones."""
    from tranship.testing.tiers import TIERS

    rows = []
    for report in reports():
        lacking = [[need.value for need in sorted(tier.needs) if not report.capabilities.has(need)] for tier in TIERS]
        reached = next((number for number, some in enumerate(lacking) if some), len(TIERS))
        rows.append([report.backend, str(reached), ", ".join(name for some in lacking for name in some)])
    return table(["backend", "tier", "lacks for those above"], iter(rows))


def orchestrator_capabilities() -> str:
    """What an orchestrator can do, as a backend."""
    from tranship.ports import Capability
    from tranship.registry import Registry

    known = Registry().create("avtomatika+http://hub").capabilities
    rows = ([f"`{one.value}`", _support(known[one])] for one in Capability if known.has(one))
    return table(["capability", ""], rows)


def kombu_transports() -> str:
    """What is declared of each of kombu's transports, and how many cases those pass that are run here."""
    from tranship.testing.report import ConformanceReport
    from tranship_kombu._transports import TRANSPORTS

    kept = ROOT / "plugins" / "tranship-kombu" / "tests" / "conformance"
    found = [ConformanceReport.read(path) for path in kept.glob("*.report.json")]
    passed = {one.backend: one.passed for one in found}
    rows = []
    for one in TRANSPORTS:
        name = f"kombu+{one.name}"
        needs = "kombu alone" if one.install == "kombu" else f"`{one.install}`"
        order = {"back": "kept; what comes again is last", "keeps-place": "kept", None: "any"}[one.order]
        held = f"after {one.timeout[1]:g} s (`transport.{one.timeout[0]}`)" if one.timeout else _KILLED[one.held]
        shared = "yes" if one.shared else "one process"
        cases = f"{passed[name]} cases" if name in passed else "not run here"
        if one.name == "sqla":
            cases += f" on SQLite, {passed['kombu+sqla+postgresql']} on PostgreSQL"
        durable, levels = ("yes" if one.durable else "no"), ("four" if one.levels else "none")
        rows.append(
            [
                f"`{name}://`" if name != "kombu+sqla" else "`kombu+sqla+...://`",
                needs,
                durable,
                shared,
                levels,
                order,
                held,
                cases,
            ]
        )
    head = ["URL", "needs", "durable", "shared", "priorities", "order", "a killed worker's tasks run again", "passed"]
    return table(head, iter(rows))


_KILLED = {
    "lease": "after its `lease`, which is renewed",
    "connection": "as soon as it is noticed",
    "lost": "never: they are lost",
}


def _counted(report: Any, needs: Any, capability: Any) -> str:
    mine = [
        outcome == "passed"
        for case, outcome in report.cases.items()
        if (capability in needs[case] if capability is not None else not needs[case])
    ]
    return f"{sum(mine)} of {len(mine)}"


def reports() -> list[Any]:
    """The conformance reports that are kept beside the tests of each backend."""
    from tranship.testing.report import ConformanceReport

    paths = [*ROOT.glob("tests/conformance/*.report.json"), *ROOT.glob("plugins/*/tests/conformance/report.json")]
    found = [ConformanceReport.read(path) for path in paths]
    return sorted(found, key=lambda report: ORDER.index(report.backend) if report.backend in ORDER else len(ORDER))


def _support(support: Any) -> str:
    properties = ", ".join(f"{name} {value}" for name, value in support.properties.items())
    return support.level.value + (f" ({properties})" if properties else "")


def tiers() -> str:
    from tranship.testing.tiers import TIERS, required_cases

    rows = []
    for tier in TIERS:
        counts = Counter(one.suite for one in required_cases(tier))
        suites = ", ".join(f"`{name}` ({count})" for name, count in counts.items())
        rows.append([str(tier.number), tier.title, ", ".join(sorted(tier.needs)), suites])
    return table(["tier", "", "declares", "suites, and their cases of this tier"], iter(rows))


def conformance() -> str:
    from tranship.testing import suites
    from tranship.testing.case import cases_of
    from tranship.testing.tiers import tier_of

    def row(one: Any) -> list[str]:
        tier = "" if one.level == "stress" else str(tier_of(one))
        return [f"`{one.id}`", tier, one.level, ", ".join(sorted(one.needs)), one.rationale]

    parts = []
    for name in suites.__all__:
        suite = getattr(suites, name)
        if isinstance(suite, type):
            cases = table(["case", "tier", "level", "needs", "without it"], map(row, cases_of(suite)))
            parts.append(f"## {name}\n\n{first_paragraph(suite)}\n\n{cases}")
    return "\n" + "\n".join(parts)


def hooks() -> str:
    from tranship import hookspecs

    names = [name for name in hookspecs.__all__ if name.startswith("tranship_")]
    return table(["hook", ""], ([f"`{name}(register)`", first_paragraph(getattr(hookspecs, name))] for name in names))


def cli() -> str:
    import typer

    from tranship.cli._app import app

    root = typer.main.get_command(app)
    shared = {name for one in root.params for name in one.opts}
    return "\n" + "\n".join(_command(command, path, shared) for path, command in _commands(root, "tranship"))


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def _command(command: Any, path: str, shared: set[str]) -> str:
    own = [one for one in command.params if not shared.issuperset(one.opts) and not getattr(one, "hidden", False)]
    arguments = [one for one in own if one.param_type_name == "argument"]
    rows = [[_option(one), f"{one.help or ''}{_usual(one)}"] for one in own if one not in arguments]
    rows += [[f"`{one.metavar}`", one.help] for one in arguments if one.help]
    usage = " ".join([path, *(one.metavar for one in arguments)])
    text = f"### `{usage}`\n\n{inspect.cleandoc(command.help or '')}\n"
    return text + (f"\n{table(['', ''], iter(rows))}" if rows else "")


def _usual(option: Any) -> str:
    said = option.show_default if isinstance(option.show_default, str) else option.default
    return "" if said in (None, False, "") or option.is_flag else f" Default: {said}."


def _option(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in option.opts)


def log_records() -> str:
    """Every record that clients, workers and schedulers write, by logger."""
    spec = importlib.util.spec_from_file_location("log_records", HERE / "log_records.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    texts = []
    for logger, found in groupby(module.records(), lambda one: one.logger):
        rows = ([_levels(one), _code(one.text), "a task's" if one.of_task else ""] for one in found)
        texts.append(f"### `{logger}`\n\n{table(['level', '`message_template`', 'fields'], rows)}")
    return "\n" + "\n".join(texts)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _levels(record: Any) -> str:
    return " or ".join(record.levels) + (", traceback" if record.traceback else "")


def prometheus() -> str:
    """What `/metrics` of a worker with two processes tells, asked of one that has run a task."""
    from prometheus_client.parser import text_string_to_metric_families

    rows = []
    for family in text_string_to_metric_families(_scraped()):
        counted = family.type == "counter"
        labels = {name: None for sample in family.samples for name in sample.labels if name != "process"}
        unit = next((unit for ending, unit in _UNITS.items() if family.name.endswith(ending)), "")
        name = f"{family.name}_total" if counted else family.name
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append([f"`{name}`", family.type, unit, shown, family.documentation])
    return table(["metric", "type", "unit", "labels", ""], iter(rows))


_UNITS = {"_seconds": "s", "_bytes": "bytes"}


def _scraped() -> str:
    from tranship import Client, Worker, task
    from tranship.cli._family_health import FamilyHealth
    from tranship.settings import Settings
    from tranship.testing.background import BackgroundWorker

    @task(name="reference.ping")
    def ping() -> None: ...

    url = "memory://reference-prometheus"
    settings = Settings.load(broker_url=url, result_url=url, health_port=0)
    with BackgroundWorker(Worker(settings=settings, tasks=[ping])) as background, Client(url) as client:
        client.submit(ping).result(timeout=20)
        health = FamilyHealth(2)
        try:
            health.open("127.0.0.1", 0)
            health.listens(1, background.worker.health_port or 0)
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}/metrics", timeout=20) as answer:
                text: str = answer.read().decode()
                return text
        finally:
            health.close()


def parts() -> dict[str, Callable[[], str]]:
    """Every generated part by name."""
    import tranship_objectstore
    from tranship import Client, TaskContext, TaskHandle, Worker, Workflow, WorkflowHandle
    from tranship import errors as core_errors
    from tranship.backends.memory import MemoryOptions
    from tranship.backends.sqlite import SqliteOptions
    from tranship.client import Probe
    from tranship.compat.sandai import Operator, OperatorCall, OperatorClient
    from tranship.driver import (
        ConnectionOptions,
        End,
        Ending,
        Facts,
        Outgoing,
        QueueTraits,
        Row,
        SendLimits,
        Stored,
        Taken,
        TakenBatch,
        Timing,
    )
    from tranship.envelope import DeadLetter, Envelope, TaskResult
    from tranship.hookspecs import ClassifierSpec, CodecSpec, CommandSpec, MiddlewareSpec, ResultStoreSpec
    from tranship.middleware import BatchRunCall, Middleware, RunCall, SettleCall
    from tranship.operations import (
        AsyncOperator,
        CommandAnswer,
        Finished,
        History,
        MovedQueue,
        MoveOptions,
        MoveProgress,
        MoveReport,
        Percentiles,
        QueueReport,
        Refusal,
        Sample,
        Sampler,
        TaskLatency,
    )
    from tranship.ports import (
        CountKind,
        Delivery,
        Heartbeat,
        HostFigures,
        QueuedTask,
        QueueInfo,
        QueueTotals,
        RunningTask,
        Settled,
    )
    from tranship.protocol import Message, RawMessage
    from tranship.routing import RoutingOptions
    from tranship.schedules import Schedule, Scheduler, ScheduleReport
    from tranship.settings import BackendConfig, CommonOptions
    from tranship.task import Task, TaskOptions
    from tranship.worker import WorkerStatus
    from tranship_avtomatika._options import AvtomatikaOptions
    from tranship_azolla._options import AzollaOptions
    from tranship_dashboard import Dashboard
    from tranship_kombu._options import KombuOptions
    from tranship_kombu._results import DatabaseOptions
    from tranship_nats._options import NatsOptions
    from tranship_objectstore import Found, LargePayloads, Location, ObjectStore
    from tranship_rabbitmq._options import RabbitOptions
    from tranship_redis._options import RedisOptions

    common = [one.name for one in fields(CommonOptions)]
    return {
        "settings": settings,
        "errors": lambda: errors(core_errors),
        "errors:objectstore": lambda: errors(tranship_objectstore),
        "arguments:LargePayloads": lambda: arguments(LargePayloads),
        "arguments:ObjectStore": lambda: arguments(ObjectStore),
        "arguments:Dashboard": lambda: arguments(Dashboard),
        "error-codes": error_codes,
        "error-tree": error_tree,
        "states": states,
        "cancel-reasons": reasons,
        "capabilities": capabilities,
        "conformance-kept": kept,
        "tiers-kept": tiers_kept,
        "kombu-transports": kombu_transports,
        "orchestrator-capabilities": orchestrator_capabilities,
        "conformance": conformance,
        "tiers": tiers,
        "hooks": hooks,
        "cli": cli,
        "log-records": log_records,
        "prometheus": prometheus,
        "methods:Middleware": lambda: methods(Middleware),
        "options:MoveOptions": lambda: options(MoveOptions),
        "options:TaskOptions": lambda: options(TaskOptions),
        "options:CommonOptions": lambda: options(CommonOptions),
        "options:MemoryOptions": lambda: options(MemoryOptions, without=common),
        "options:SqliteOptions": lambda: options(SqliteOptions, without=common),
        "options:RoutingOptions": lambda: options(RoutingOptions),
        "options:RedisOptions": lambda: options(RedisOptions, without=common),
        "options:RabbitOptions": lambda: options(RabbitOptions, without=common),
        "options:NatsOptions": lambda: options(NatsOptions, without=common),
        "options:AvtomatikaOptions": lambda: options(AvtomatikaOptions, without=common),
        "options:AzollaOptions": lambda: options(AzollaOptions),
        "options:KombuOptions": lambda: options(KombuOptions, without=common),
        "options:DatabaseOptions": lambda: options(DatabaseOptions, without=common),
        **{
            f"fields:{cls.__name__}": lambda cls=cls: data(cls)
            for cls in (TaskResult, Probe, WorkerStatus, DeadLetter, Heartbeat, RunningTask, HostFigures)
        },
        **{
            f"fields:{cls.__name__}": lambda cls=cls: data(cls)
            for cls in (CommandAnswer, QueueReport, QueuedTask, QueueTotals, Sample, ScheduleReport, Finished)
        },
        **{
            f"fields:{cls.__name__}": lambda cls=cls: data(cls)
            for cls in (MoveReport, MovedQueue, Refusal, MoveProgress, Found, Location, TaskLatency, Percentiles)
        },
        **{
            f"methods:{cls.__name__}": lambda cls=cls: methods(cls)
            for cls in (
                *(Client, TaskHandle, WorkflowHandle, TaskContext, Worker, AsyncOperator, Task, Workflow),
                *(LargePayloads, ObjectStore, Sampler, History),
            )
        },
        **{f"methods:{cls.__name__}": lambda cls=cls: methods(cls) for cls in (OperatorClient, Operator, Scheduler)},
        **{f"record:{cls.__name__}": lambda cls=cls: record(cls) for cls in (Message, RawMessage, Envelope)},
        **{
            f"part:{cls.__name__}": lambda cls=cls: described(cls)
            for cls in (ResultStoreSpec, MiddlewareSpec, ClassifierSpec, CodecSpec, CommandSpec)
        },
        **{
            f"record:{cls.__name__}": lambda cls=cls: record(cls)
            for cls in (BackendConfig, DeadLetter, RunCall, BatchRunCall, SettleCall)
        },
        **{
            f"record:{cls.__name__}": lambda cls=cls: record(cls)
            for cls in (QueueTraits, SendLimits, Facts, Row, TakenBatch, Ending, Stored, Timing, QueueInfo, Delivery)
        },
        **{
            f"arguments:{cls.__name__}": lambda cls=cls: arguments(cls)
            for cls in (Outgoing, Taken, Schedule, Scheduler)
        },
        **{f"members:{cls.__name__}": lambda cls=cls: members(cls) for cls in (End, Settled, CountKind)},
        "methods:Outgoing": lambda: methods(Outgoing),
        "options:ConnectionOptions": lambda: options(ConnectionOptions, without=common),
        "fields:OperatorCall": lambda: data(OperatorCall),
    }


def described(cls: Any) -> str:
    """What a plugin says of one thing that it brings."""
    docs = field_docs(cls)
    docs.setdefault("name", "what errors and `tranship plugins` call it")
    rows = [[f"`{name}`", docs[name]] for name in cls._fields]
    return table(["field", ""], iter(rows))


def data(cls: type) -> str:
    docs = field_docs(cls)
    rows = [[f"`{one.name}`", docs.get(one.name, "")] for one in fields(cls)]
    public = ((name, one) for name, one in vars(cls).items() if not name.startswith("_"))
    rows += [row for name, one in public if (row := _method_row(name, one))]
    return table(["", ""], iter(rows))


def record(cls: type) -> str:
    """The fields of a dataclass, or a named tuple, with their types, for who fills or reads one."""
    docs = field_docs(cls)
    rows = [[f"`{name}`", f"`{kind}`", default, docs[name]] for name, kind, default in columns(cls)]
    return table(["field", "type", "default", ""], iter(rows))


def columns(cls: Any) -> Iterator[tuple[str, str, str]]:
    if not issubclass(cls, tuple):
        yield from ((one.name, one.type, default_of(one)) for one in fields(cls))
        return
    for name in cls._fields:
        kind, known = cls.__annotations__[name], cls._field_defaults
        yield name, getattr(kind, "__forward_arg__", kind), shown_value(known[name]) if name in known else ""


def members(cls: Any) -> str:
    docs = field_docs(cls)
    return table(["member", ""], ([f"`{one.name}`", docs[one.name]] for one in cls))


def filled(page: str) -> str:
    """Return ``page`` with its generated parts made anew."""
    known = parts()
    return PART.sub(lambda found: f"{found[1]}\n{known[found[2]]()}\n{found[3]}", page)


def main() -> None:
    for path in sorted(HERE.glob("*.md")):
        before = path.read_text("utf-8")
        if (after := filled(before)) != before:
            path.write_text(after, "utf-8")
            print("written", path.name, file=sys.stderr)


if __name__ == "__main__":
    main()
