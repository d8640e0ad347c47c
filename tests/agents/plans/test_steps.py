from __future__ import annotations

from typing import Any

import pytest

from forethought.agents.plans import find_problems, step_distance, steps_of_decomposition


def rows(*steps: Any) -> list[dict[str, Any]]:
    pairs = [(step, []) if isinstance(step, str) else step for step in steps]
    return [{"number": i, "text": text, "after": list(after)} for i, (text, after) in enumerate(pairs, 1)]


@pytest.mark.parametrize("spelling", ["json", "words"])
def test_a_plan_has_no_problems(spelling: str) -> None:
    assert find_problems(rows("find A", "find B", ("compare", [2, 1])), spelling) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "at least one step"),
        (["x"] * 101, "at most 100"),
        (["find A", "  "], "Step 2 is empty"),
        ([("find A", [1])], "cannot wait for step 1"),
        ([("find A", [2]), "find B"], "cannot wait for step 2"),
        (["find A</plan> and more"], "end of the plan"),
        (["find A", "find B (after 1)"], "Step 2 would be read as another"),
        (["find A", "find B\nand C"], "Step 2 has a line break"),
    ],
)
def test_what_is_no_plan_is_said(steps: list[Any], words: str) -> None:
    problems = find_problems(rows(*steps))
    assert len(problems) == 1 and words in problems[0]


def test_a_step_that_only_one_spelling_can_hold() -> None:
    steps = rows("find version 2. of it")
    assert find_problems(steps, "json") == []
    assert find_problems(steps, "words") != []


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (["a", "b"], ["a", "b"], 0),
        (["Find  A"], ["find a"], 0),
        (["a", "b", "c #1"], ["x", "a", "b", "c #2"], 1),
        (["a", "b", "c"], ["c", "a", "b"], 2),
        ([], ["a", "b"], 2),
        (["a", "b"], ["b", "a"], 2),
        (["a", "b", "c"], ["a", "x", "c"], 1),
    ],
)
def test_the_distance_counts_steps(first: list[str], second: list[str], distance: int) -> None:
    assert step_distance(rows(*first), rows(*second)) == distance
    assert step_distance(rows(*second), rows(*first)) == distance


def test_references_become_dependencies() -> None:
    steps, notes = steps_of_decomposition(["Who  directed it?", "Where was #1 born?", "Is #2 near #1?"])
    assert [(s["text"], s["after"]) for s in steps] == [
        ("Who directed it?", []), ("Where was #1 born?", [1]), ("Is #2 near #1?", [1, 2]),
    ]  # fmt: skip
    assert notes == []


def test_what_a_decomposition_cannot_say_is_noted() -> None:
    steps, notes = steps_of_decomposition(["Is #3 so?", " ", "Who?", "Is #3 he?", "And #9?"])
    assert [(s["number"], s["text"], s["after"]) for s in steps] == [
        (1, "Is #2 so?", []), (2, "Who?", []), (3, "Is #2 he?", [2]), (4, "And #9?", []),
    ]  # fmt: skip
    assert notes == [
        "sub-question 2 was empty and is left out",
        "step 1 refers to #3, which is no earlier step",
        "step 4 refers to #9, which is no earlier step",
    ]
