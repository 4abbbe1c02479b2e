"""``python -m tranship_objectstore sweep URL``: delete what has expired, from a cron job where no worker does."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tranship.errors import TranshipError
from tranship_objectstore._store import ObjectStore
from tranship_objectstore._sweep import sweep


def main() -> int:
    """Run the command; the exit status is 1 where the store cannot be asked."""
    parser = argparse.ArgumentParser(prog="python -m tranship_objectstore", description="Look after an object store.")
    commands = parser.add_subparsers(required=True)
    sweeping = commands.add_parser("sweep", help="delete what has expired; credentials come from the environment")
    sweeping.add_argument("url", help="where objects go, such as s3://bucket/prefix")
    sweeping.add_argument("--endpoint-url", help="of a server that is not Amazon's")
    given = parser.parse_args()
    try:
        done = asyncio.run(sweep(ObjectStore(given.url, endpoint_url=given.endpoint_url)))
    except TranshipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"deleted {done} objects\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
