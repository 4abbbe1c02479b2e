"""Whatever verb of the driver goes wrong, at whatever point the kit is stopped, nothing is lost and promises hold."""

from __future__ import annotations

import pytest

from driver.crashes import everywhere
from driver.scenarios import ALL, WITHOUT_TABLE, forwarded, forwarded_by_one, posted


@pytest.mark.parametrize("fuses", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
async def test_promise_holds_with_any_verb_going_wrong(scenario, fuses: bool) -> None:
    if fuses and scenario in (forwarded, forwarded_by_one):
        pytest.skip("the broker delays by itself")
    assert await everywhere(scenario, fuses=fuses, posts=scenario is posted) >= 4


@pytest.mark.parametrize("scenario", WITHOUT_TABLE, ids=lambda scenario: scenario.__name__)
async def test_promise_holds_without_a_table(scenario) -> None:
    assert await everywhere(scenario, table=False, log=True) >= 4
