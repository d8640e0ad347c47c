from typing import Any

import pytest

from forethought.envs import Budget
from forethought.envs.budgets import Usage


@pytest.mark.parametrize("name", ["turns", "tool_calls", "sampled_tokens", "seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_budget_leaves_room_for_something(name: str, value: int) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"budget '{name}' must be greater than 0 or None, found {value}"):
        Budget(**limits)


def test_a_budget_is_overdrawn_by_more_than_it_allows() -> None:
    budget = Budget(tool_calls=2, sampled_tokens=10, seconds=1.0)
    assert Usage(tool_calls=2, sampled_tokens=10).exceeded(budget, 1.0) is None
    assert Usage(tool_calls=3).exceeded(budget, 0.0) == "tool_calls"
    assert Usage(sampled_tokens=11).exceeded(budget, 0.0) == "sampled_tokens"
    assert Usage().exceeded(budget, 1.1) == "seconds"


def test_a_budget_is_exhausted_when_nothing_is_left_for_a_turn() -> None:
    budget = Budget(turns=2, sampled_tokens=10)
    assert Usage(turns=1, sampled_tokens=9).exhausted(budget) is None
    assert Usage(turns=2).exhausted(budget) == "turns"
    assert Usage(sampled_tokens=10).exhausted(budget) == "sampled_tokens"


def test_none_is_no_limit() -> None:
    budget = Budget(turns=None)
    much = Usage(turns=10**6, tool_calls=10**6, sampled_tokens=10**9)
    assert much.exceeded(budget, 1e9) is None
    assert much.exhausted(budget) is None
