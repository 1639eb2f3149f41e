"""A thousand restarts of real processes, some of them with a spare."""

from __future__ import annotations

import asyncio

import pytest
from test_actors_restarts import die_often


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("spare", [0, 1])
def test_a_thousand_restarts_leave_nothing_behind(spare: int) -> None:
    asyncio.run(die_often("process", 500, spare))
