"""What every test of this plugin may use: an S3 that runs, and stores in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servers.s3 import s3_bucket, s3_denies, s3_service  # noqa: F401 - fixtures
from tranship.testing.services import Service
from tranship_objectstore import ObjectStore


@pytest.fixture
def s3_store(s3_service: Service, s3_bucket: str) -> Callable[..., ObjectStore]:  # noqa: F811
    """Make a store in the new bucket; the arguments are :class:`ObjectStore`'s."""

    def store(prefix: str = "work", **options) -> ObjectStore:
        usual = {
            "endpoint_url": s3_service.url,
            "access_key": "AKIATEST",
            "secret_key": "hunter2",
            "retries": 1,
            "timeout": 5,
        }
        return ObjectStore(f"s3://{s3_bucket}/{prefix}", **{**usual, **options})

    return store
