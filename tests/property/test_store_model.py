"""Any sequence of calls, restarts and crashes: the store does what a few dicts do."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from store_model import StoreMachine

pytestmark = pytest.mark.evidence

StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_store_is_a_few_dicts = pytest.mark.rule("state.B10", "state.B12", "state.B15", "state.R8")(StoreMachine.TestCase)
