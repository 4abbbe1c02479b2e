"""No input ends a decoder otherwise than with a value or its own error, and none takes long.

A few seconds of it in every run; ``nox -s fuzz`` feeds a million inputs, or as many as it is told.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import pytest
from decoders import Target, targets
from hypothesis import HealthCheck, Phase, given, settings

INPUTS = int(os.environ.get("TRANSHIP_TEST_FUZZ", "0"))
LONGEST = 1.0
"""Seconds of this thread's own time; the slowest of these inputs takes a few milliseconds."""
TARGETS = targets()
EACH = max(60, INPUTS // len(TARGETS))


@pytest.mark.timeout(max(120, INPUTS // 50))
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_answers_with_a_value_or_its_own_error(target: Target) -> None:
    @settings(
        max_examples=EACH,
        deadline=None,
        # Random inputs anew in a session of its own; the same ones each time in the suite.
        derandomize=not INPUTS,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(target.inputs)
    def feed(given_one: Any) -> None:
        began = time.thread_time()
        with contextlib.suppress(*target.errors):
            target.decode(given_one)
        assert time.thread_time() - began < LONGEST

    feed()


def test_there_are_decoders_to_feed() -> None:
    assert len(TARGETS) >= 13
