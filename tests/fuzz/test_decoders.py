"""No input ends a decoder otherwise than with a value or its own error, and none takes long.

A few seconds of it in every run, the same inputs each time; ``nox -s fuzz`` feeds a million others, or as many as it is
told.
"""

from __future__ import annotations

import contextlib
import os
import time
from random import Random

import pytest
from decoders import Target, targets
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

INPUTS = int(os.environ.get("TRANSHIP_TEST_FUZZ", "0"))
SEED = int(os.environ.get("TRANSHIP_TEST_FUZZ_SEED", "0"))
LONGEST = 1.0
"""Seconds of this thread's own time; the slowest of these inputs takes a few milliseconds."""
TARGETS = targets()
ids = [target.name for target in TARGETS]


def feed(target: Target, seed: int) -> None:
    fed = target.inputs(Random(seed))
    began = time.thread_time()
    try:
        with contextlib.suppress(*target.errors):
            target.decode(fed)
    except Exception as error:
        error.add_note(f"input of seed {seed}: {fed!r:.2000}")
        raise
    assert time.thread_time() - began < LONGEST, f"input of seed {seed}: {fed!r:.2000}"


@pytest.mark.parametrize("target", TARGETS, ids=ids)
def test_a_decoder_answers_with_a_value_or_its_own_error(target: Target) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
    @given(st.integers(0, 2**48))
    @example(0)
    def fed(seed: int) -> None:
        for further in range(10):
            feed(target, seed + further)

    fed()


if INPUTS:

    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("target", TARGETS, ids=ids)
    def test_many_inputs(target: Target) -> None:
        each = INPUTS // len(TARGETS)
        for seed in range(SEED * each, (SEED + 1) * each):
            feed(target, seed)


def test_there_are_decoders_to_feed() -> None:
    assert len(TARGETS) >= 13
