"""``manage.py tranship``: the command ``tranship``, which knows the project's broker, and its worker its tasks."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, handle_default_options

from tranship_django._interface import task_backends
from tranship_django._options import Options

__all__ = ["Command"]


class Command(BaseCommand):
    """Everything that follows is tranship's; only ``--backend ALIAS`` is ours."""

    help = "Run the command tranship on the project's broker; `manage.py tranship worker` runs the project's tasks."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own

    def add_arguments(self, parser: Any) -> None:
        """What ``manage.py help tranship`` tells."""
        _add_ours(parser)
        parser.add_argument("arguments", nargs=REMAINDER, help="of tranship, such as: worker --processes 4")

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave the options to tranship: Django's parser would refuse what it does not know."""
        parser = ArgumentParser(add_help=False, allow_abbrev=False)
        for name in ("--settings", "--pythonpath"):
            parser.add_argument(name)
        _add_ours(parser)
        options, arguments = parser.parse_known_args(argv[2:])
        handle_default_options(options)
        try:
            self.handle(backend=options.backend, arguments=arguments)
        except CommandError as error:
            self.stderr.write(str(error))
            sys.exit(error.returncode)

    def handle(self, *_args: Any, backend: str, arguments: list[str], **_options: Any) -> None:
        """Run ``tranship``, and end the process."""
        from tranship.cli import main
        from tranship_django._backend import TranshipBackend

        found = task_backends[backend] if backend in list(task_backends) else None
        if not isinstance(found, TranshipBackend):
            raise CommandError(
                f"TASKS[{backend!r}] is no backend of tranship_django.TranshipBackend; give --backend ALIAS"
            )
        _hand_down(found.told)
        if arguments[:1] == ["worker"]:
            arguments = ["worker", f"tranship_django.workers:{backend}", *arguments[1:]]
        sys.argv = ["tranship", *arguments]
        main()


def _add_ours(parser: Any) -> None:
    parser.add_argument("--backend", default="default", metavar="ALIAS", help="which of TASKS (default: default)")


def _hand_down(told: Options) -> None:
    """Tell tranship, and the processes it starts, where the broker is and where the project's modules are."""
    given = {"BROKER_URL": told.url, "RESULT_URL": told.result_url, "NAMESPACE": told.namespace}
    os.environ.update({f"TRANSHIP_{name}": value for name, value in given.items() if value})
    paths = [sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
