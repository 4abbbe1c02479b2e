"""The other side of Azolla's protocol: an orchestrator that keeps tasks in memory, and a shepherd that starts processes.

They do what the published services say, and no more: the orchestrator names tasks, repeats them as their policies say and
answers who waits; the shepherd takes tasks over its stream, starts a process for each and hands on what that one reports.
A process that dies without a word is reported as an ``InfrastructureError``, which is what an orchestrator makes of a
shepherd that it has lost.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc

from tranship_azolla import _methods as methods
from tranship_azolla import wire_pb2 as wire

BOUND = 30.0
LOST = wire.ErrorResult(type="InfrastructureError", message="the process has died", data="{}", retriable=True)


def serve(handlers: dict[methods.Method, Any], *, stream: Any = None, port: int = 0) -> tuple[grpc.Server, int]:
    """Start a server of these unary methods, and of a stream; return it with its port."""
    server = grpc.server(ThreadPoolExecutor(32))
    found: dict[str, dict[str, Any]] = {}
    for method, handler in handlers.items():
        _, service, name = method.path.split("/")
        found.setdefault(service, {})[name] = grpc.unary_unary_rpc_method_handler(
            handler, method.request.FromString, method.response.SerializeToString
        )
    if stream is not None:
        _, service, name = methods.STREAM.path.split("/")
        found[service] = {
            name: grpc.stream_stream_rpc_method_handler(
                stream, methods.STREAM.request.FromString, methods.STREAM.response.SerializeToString
            )
        }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*one) for one in found.items()])
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


def lasting_port() -> int:
    """Return a port that is free, and that no connection is given by the system while its server is away."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Record:
    """One task of an orchestrator."""

    request: Any
    created: float = field(default_factory=time.monotonic)
    due: float = 0.0
    attempts: int = 0
    runs: bool = False
    result: Any = None


class Orchestrator:
    """Takes tasks from clients and hands them to shepherds."""

    def __init__(self, port: int = 0) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self.tasks: dict[str, Record] = {}
        self._server, self.port = serve(
            {methods.CREATE_TASK: self._create, methods.WAIT_FOR_TASK: self._wait}, stream=self._stream, port=port
        )

    @property
    def url(self) -> str:
        return f"azolla://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.stop(0).wait(BOUND)

    # Clients.

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        problem = _problem(request)
        if problem:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        task_id = str(uuid4())
        with self._changed:
            self.tasks[task_id] = Record(request)
            self._changed.notify_all()
        return wire.CreateTaskResponse(task_id=task_id)

    def _wait(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not _is_uuid(request.task_id):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Invalid task_id UUID")
        seconds = request.timeout_ms / 1000 if request.HasField("timeout_ms") else 300.0
        with self._changed:
            record = self._of(request)
            if record is None:
                # Without a wait a real one does not look whether there is such a task.
                known = wire.TASK_NOT_FOUND if seconds else wire.TIMEOUT
                return wire.WaitForTaskResponse(status_code=known)
            self._changed.wait_for(lambda: record.result is not None or self._closed, seconds)
            if record.result is None:
                return wire.WaitForTaskResponse(status_code=wire.TIMEOUT)
            how = record.result.WhichOneof("result_type")
            return wire.WaitForTaskResponse(status_code=wire.COMPLETED, **{how: getattr(record.result, how)})

    def _of(self, request: Any) -> Record | None:
        record = self.tasks.get(request.task_id)
        return record if record is not None and record.request.domain == request.domain else None

    # Shepherds.

    def _stream(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        hello = next(messages).hello
        held: set[str] = set()
        gone = threading.Event()

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                for message in messages:
                    if message.WhichOneof("kind") == "task_result":
                        self._ended(message.task_result, held)
            gone.set()
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=read, daemon=True).start()
        while (task := self._next(hello, held, gone)) is not None:
            yield wire.ServerMsg(task=task)
        for task_id in [*held]:
            self._ended(wire.TaskResult(task_id=task_id, error=LOST), held)

    def _next(self, hello: Any, held: set[str], gone: threading.Event) -> Any:
        """Return the next task for a shepherd, as soon as there is one and it has room; None: it has gone."""
        with self._changed:
            while not (self._closed or gone.is_set()):
                fits = [one for one in self.tasks.items() if _fits(one[1], hello)]
                ready = [one for one in fits if one[1].due <= time.monotonic()]
                if ready and len(held) < hello.max_concurrency:
                    task_id, record = ready[0]
                    record.runs = True
                    record.attempts += 1
                    held.add(task_id)
                    asked = record.request
                    return wire.Task(task_id=task_id, name=asked.name, args=asked.args, kwargs=asked.kwargs)
                soonest = min((one[1].due for one in fits), default=None)
                self._changed.wait(None if soonest is None else max(soonest - time.monotonic(), 0.001))
        return None

    def _ended(self, result: Any, held: set[str]) -> None:
        with self._changed:
            record = self.tasks.get(result.task_id)
            held.discard(result.task_id)
            if record is not None and record.runs:
                record.runs = False
                pause = _pause(record, result)
                if pause is None:
                    record.result = result
                else:
                    record.due = time.monotonic() + pause
            self._changed.notify_all()

    def attempts(self, task_id: str) -> int:
        return self.tasks[task_id].attempts


class Shepherd:
    """Takes tasks from an orchestrator, starts a process for each, and reports how it ended."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        command: Sequence[str],
        cwd: Path,
        *,
        concurrency: int = 2,
        domain: str = "default",
    ) -> None:
        self._command, self._cwd = command, cwd
        self._out: queue.Queue[Any] = queue.Queue()
        self._reported: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._threads: list[threading.Thread] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """The latest process of each task."""
        self._server, self.port = serve({methods.REPORT_RESULT: self._report})
        hello = wire.Hello(
            shepherd_uuid=str(uuid4()), max_concurrency=concurrency, domain=domain, shepherd_group="default"
        )
        self._out.put(wire.ClientMsg(hello=hello))
        self._channel = grpc.insecure_channel(f"127.0.0.1:{orchestrator.port}")
        call = self._channel.stream_stream(
            methods.STREAM.path, methods.STREAM.request.SerializeToString, methods.STREAM.response.FromString
        )
        self._stream = call(iter(self._out.get, None))
        self._start(self._take)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        """What the processes have said, for a test that failed."""
        return "\n".join(one.read_text() for one in sorted(self._cwd.glob("process-*.log")))

    def close(self) -> None:
        self._out.put(None)
        self._stream.cancel()
        for process in self.processes.values():
            process.kill()
        for thread in self._threads:
            thread.join(BOUND)
        self._channel.close()
        self._server.stop(0).wait(BOUND)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in self._stream:
                if message.WhichOneof("kind") == "task":
                    self._out.put(wire.ClientMsg(ack=wire.Ack(task_id=message.task.task_id)))
                    self._start(self._run, message.task)

    def _run(self, task: Any) -> None:
        given = ["--task-id", task.task_id, "--name", task.name, "--args", task.args, "--kwargs", task.kwargs]
        before = self._reported.get(task.task_id, 0)
        with (self._cwd / f"process-{next(self._numbers):03d}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self._command, *given, "--shepherd-endpoint", self.endpoint],
                cwd=self._cwd,
                env={**os.environ},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            self.processes[task.task_id] = process
            process.wait()
        if self._reported.get(task.task_id, 0) == before:
            self._out.put(wire.ClientMsg(task_result=wire.TaskResult(task_id=task.task_id, error=LOST)))

    def _report(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.task_id != request.result.task_id:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Task ID mismatch between request and result")
        if request.result.WhichOneof("result_type") is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Missing result type")
        if request.task_id not in self.processes:
            return wire.ReportResultResponse(success=False, message="no process of mine has that task")
        self._reported[request.task_id] = self._reported.get(request.task_id, 0) + 1
        self._out.put(wire.ClientMsg(task_result=request.result))
        return wire.ReportResultResponse(success=True, message="received")


def _fits(record: Record, hello: Any) -> bool:
    asked = record.request
    group = asked.shepherd_group if asked.HasField("shepherd_group") else hello.shepherd_group
    return record.result is None and not record.runs and (asked.domain, group) == (hello.domain, hello.shepherd_group)


def _pause(record: Record, result: Any) -> float | None:
    """Return the seconds until a task runs again; None: it is over."""
    if result.WhichOneof("result_type") == "success":
        return None
    policy = record.request.retry_policy
    includes = policy.retry.include_errors if policy.HasField("retry") else ["ValueError"]
    kind = result.error.type
    if kind in policy.retry.exclude_errors or not ("TaskError" in includes or kind in includes):
        return None
    limit = policy.stop.max_attempts if policy.HasField("stop") else 5
    if record.attempts >= limit:
        return None
    wait = policy.wait.WhichOneof("kind")
    return policy.wait.fixed.delay if wait == "fixed" else getattr(policy.wait, wait).initial_delay if wait else 1.0


def _problem(request: Any) -> str:
    try:
        json.loads(request.args)
        json.loads(request.kwargs)
    except ValueError as error:
        return f"Invalid JSON: {error}"
    if request.HasField("flow_instance_id") and not _is_uuid(request.flow_instance_id):
        return "Invalid flow_instance_id UUID"
    if request.HasField("retry_policy") and request.retry_policy.version != 1:
        return "Unsupported retry policy version"
    return ""


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
