"""Pages as programs: what a reader would type, in the order of the page, in one directory.

* A fenced block with ``title="name"`` is a file; further blocks with the same title are appended to it. In the README,
  where titles are not shown, a first line ``# name.py`` says the same.
* A ``console`` block is typed into a shell: ``$ command``, followed by what it prints. Every line must come, in that
  order; ``...`` stands for anything. ``$ command &`` runs until ``$ kill %1`` or the end of the page, and must then
  end by itself; the jobs are numbered as a shell does it. ``$ export NAME=value`` holds for the rest of the page.
* ``redis://localhost/0`` is a Redis that this page has to itself, started when a block first names it, and ``redis-cli``
  talks to that one.
* ``<!-- run -->`` before a ``python`` block runs it as a script of its own, ``<!-- not run: why -->`` only compiles it
  (a ``console`` block is then left alone). A ``python`` block with neither mark nor title is an error.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (run|not run: [^>]+?) -->\s*\Z")
_TITLE = re.compile(r'title="([^"]+)"')
_NAMED = re.compile(r"# ([\w/]+\.py)\n")
_REDIS = re.compile(r"(?P<scheme>redis://)(?P<user>[^\s@/\"']*@)?localhost/0\b")
_CLI = re.compile(r"\bredis-cli\b")
PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    title: str
    mark: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in _FENCE.finditer(page):
        text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        language = found["info"].split()[0] if found["info"].strip() else ""
        title = _TITLE.search(found["info"]) or (_NAMED.match(text) if language == "python" else None)
        mark = _MARK.search(page[: found.start()])
        yield Block(
            line=page.count("\n", 0, found.start()) + 1,
            language=language,
            title=title[1] if title else "",
            mark=mark[1] if mark else "",
            text=text,
        )


class Reader:
    """Does what a page says, in ``directory``. Use it with ``with``: what runs in the background is ended.

    Args:
        directory: where files are written and commands are typed.
        environ: of the commands.
        redis: called when the page first needs a Redis; returns the URL of one for this page alone.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], redis: Callable[[], str] | None = None) -> None:
        self._directory = directory
        self._environ = dict(environ)
        self._redis = redis
        self._written: set[Path] = set()
        self._jobs: dict[int, Background] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        problems = [problem for one in reversed(self._jobs.values()) if (problem := one.stop())]
        assert kind is not None or not problems, "\n".join(problems)

    def follow(self, block: Block) -> None:
        """Do what one block says."""
        if block.language == "python":
            compile(block.text, f"line {block.line}", "exec", dont_inherit=True, flags=_ALLOW_TOP_LEVEL_AWAIT)
            assert block.title or block.mark, f"line {block.line}: a python block without a title or a mark"
        if block.mark.startswith("not run"):
            return
        block = self._settled(block)
        if block.title:
            self._write(block)
        elif block.language == "console":
            self._type(block)
        elif block.mark == "run":
            self._run(f"python - <<'SNIPPET'\n{block.text}SNIPPET", block.line)

    def _settled(self, block: Block) -> Block:
        """Return the block with the servers it names, started."""
        if not (_REDIS.search(block.text) or _CLI.search(block.text)):
            return block
        assert self._redis, f"line {block.line}: nobody here has a Redis for it"
        scheme, _, place = self._redis().partition("://")
        text = _REDIS.sub(lambda found: f"{scheme}://{found['user'] or ''}{place}", block.text)
        return replace(block, text=text)

    def _write(self, block: Block) -> None:
        path = self._directory / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        before = f"{path.read_text()}\n\n" if path in self._written else ""
        path.write_text(before + block.text)
        self._written.add(path)

    def _type(self, block: Block) -> None:
        for line, command, expected in commands(block):
            if command.startswith("kill %"):
                assert not (problem := self._jobs.pop(int(command[6:])).stop()), problem
            elif command.startswith("export "):
                name, _, value = " ".join(shlex.split(command)[1:]).partition("=")
                self._environ[name] = value
            elif command.endswith("&"):
                job = Background(command[:-1], self._directory, self._environ, line, expected)
                self._jobs[max(self._jobs, default=0) + 1] = job
            else:
                check(line, command, self._run(command, line, expected), expected)

    def _run(self, command: str, line: int, expected: list[str] | None = None) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        # A page may show a failure, but not by accident.
        fails = any(one.startswith(("Traceback", "error:")) for one in expected or ())
        assert done.returncode == 0 or fails, f"line {line}: $ {command}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout


class Background:
    """A command that ends in ``&``."""

    patience = 5.0
    """Seconds for it to print what the page says."""

    def __init__(
        self, command: str, directory: Path, environ: Mapping[str, str], line: int, expected: list[str]
    ) -> None:
        self._line, self._command, self._expected = line, command, expected
        self._log = directory / f".background-{line}"
        self._process = self._start(directory, environ, self._log.open("w"))

    def _start(self, directory: Path, environ: Mapping[str, str], log: IO[str]) -> subprocess.Popen[str]:
        with log:
            return subprocess.Popen(
                ["bash", "-c", f"exec {self._command}"],
                cwd=directory,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def stop(self) -> str:
        """End it and return what is wrong, or nothing."""
        output = self._await_output()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"line {self._line}: $ {self._command} did not end on SIGTERM\n{self._log.read_text()}"
        # A server that is not ours may leave its end to the signal.
        if code and (code != -signal.SIGTERM or self._command.startswith("tranship ")):
            return f"line {self._line}: $ {self._command} ended with {code}\n{self._log.read_text()}"
        missing = unmatched(output, self._expected)
        return f"line {self._line}: $ {self._command} did not print {missing!r}\n{output}" if missing else ""

    def _await_output(self) -> str:
        until = time.monotonic() + self.patience
        while unmatched(output := self._log.read_text(), self._expected) and time.monotonic() < until:
            if self._process.poll() is not None:
                return self._log.read_text()
            time.sleep(0.02)
        return output


_ALLOW_TOP_LEVEL_AWAIT = 0x2000


def commands(block: Block) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line, command and expected output lines of a console block."""
    current: tuple[int, str, list[str]] | None = None
    for offset, line in enumerate(block.text.splitlines()):
        if line.startswith("$ "):
            if current:
                yield current
            current = (block.line + 1 + offset, line[2:].strip(), [])
        else:
            assert current, f"line {block.line}: a console block begins with '$ '"
            current[2].append(line.rstrip())
    assert current, f"line {block.line}: a console block without a command"
    yield current


def check(line: int, command: str, output: str, expected: list[str]) -> None:
    """Fail unless ``output`` has the expected lines, in order."""
    missing = unmatched(output, expected)
    assert not missing, f"line {line}: $ {command}\ndid not print {missing!r}; it printed\n{output}"


def unmatched(output: str, expected: list[str]) -> str:
    """Return the first expected line that does not come, or nothing."""
    lines = iter([_spaced(line) for line in output.splitlines()])
    for line in map(_spaced, expected):
        if line in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("...")))
        if not any(pattern.fullmatch(found) for found in lines):
            return line
    return ""


def _spaced(line: str) -> str:
    """Tables are as wide as their widest value."""
    return " ".join(line.split())
