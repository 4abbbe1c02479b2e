"""Every fault that is planted in the driver kit breaks the promise that is there for it."""

from __future__ import annotations

import pytest

from driver.crashes import everywhere
from kit.driver_faults import FAULTS, DriverFault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_planted_fault_is_caught(fault: DriverFault, note_caught) -> None:
    with fault.planted(), pytest.raises(AssertionError) as caught:
        await everywhere(fault.caught_by)
    note_caught(f"{fault.name:<34} {fault.caught_by.__name__:<32} {str(caught.value).splitlines()[0][:90]}")
