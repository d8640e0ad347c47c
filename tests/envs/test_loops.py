import pytest

from forethought.envs.loops import LoopDetector, call_key
from forethought.envs.tools import CallResult


def call(output: str = "nil", **arguments: object) -> CallResult:
    return CallResult(name="look_up", arguments=arguments, output=output)


def test_the_same_call_with_the_same_answer_closes_a_loop() -> None:
    loops = LoopDetector(3)
    assert [loops.closes([call(relation="R1")]) for _ in range(4)] == [False, False, True, True]


def test_what_lies_between_does_not_matter_and_one_turn_may_close_it() -> None:
    loops = LoopDetector(2)
    assert not loops.closes([call(relation="R1"), call(relation="R2")])
    assert not loops.closes([])
    assert loops.closes([call(relation="R3"), call(relation="R1")])
    assert LoopDetector(2).closes([call(relation="R1")] * 2)


def test_another_answer_or_other_arguments_are_no_loop() -> None:
    loops = LoopDetector(2)
    assert not any(loops.closes([call(output=str(n), relation="R1")]) for n in range(10))
    assert not any(loops.closes([call(relation=f"R{n}")]) for n in range(2, 10))


def test_the_order_of_arguments_does_not_matter_to_a_call() -> None:
    assert call_key(call(a=1, b=2)) == call_key(call(b=2, a=1)) != call_key(call(a=2, b=1))


def test_without_a_limit_there_are_no_loops() -> None:
    loops = LoopDetector(None)
    assert not any(loops.closes([call(relation="R1")]) for _ in range(10))


def test_one_call_is_no_loop() -> None:
    with pytest.raises(ValueError, match="at least 2 of the same call"):
        LoopDetector(1)
