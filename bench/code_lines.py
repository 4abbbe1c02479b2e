"""Lines of code of Python files, without blank lines, comments and docstrings: ``python bench/code_lines.py PATH...``."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

NO_CODE = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    | {tokenize.ENCODING, tokenize.ENDMARKER}
)


def code_lines(text: str) -> int:
    """Count them in one file."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        # Of a lambda and of a conditional expression it is no list of statements.
        for statement in body if isinstance(body, list) else ():
            if _is_text(statement):
                lines.difference_update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return len(lines)


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def main(paths: list[str]) -> None:
    """Print the lines of each path, code and all."""
    for given in paths:
        path = Path(given)
        texts = [one.read_text("utf-8") for one in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
        code, lines = sum(map(code_lines, texts)), sum(text.count("\n") for text in texts)
        print(f"{code:6} code, {lines:6} lines, {len(texts):3} files  {given}")


if __name__ == "__main__":
    main(sys.argv[1:])
