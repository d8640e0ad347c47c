from collections import Counter
from typing import Any

import pytest

from forethought.envs.fan_out import FanOutEnv, FanOutTasks
from forethought.envs.fan_out.world import World


def solve(prompt: str, world: World) -> tuple[list[str], int]:
    """Read a prompt from scratch: the answer and the number of look-ups."""
    kind, *words = prompt.split()
    parts = [part.split() for part in " ".join(words).split(" ; ")]
    then = parts.pop() if kind == "mix" else None
    look_ups = sum(len(part) - 1 for part in parts)
    results = []
    for entity, *relations in parts:
        for relation in relations:
            entity = world.look_up(entity, relation)
        results.append(entity)
    if then is not None:
        word, index, relation = then
        assert word == "then"
        results.append(world.look_up(results[int(index) - 1], relation))
        look_ups += 1
    return results, look_ups


def test_the_answer_is_what_the_prompt_asks_for() -> None:
    for task in FanOutTasks("test", hops=(1, 3), size=300):
        answer, look_ups = solve(task.prompt, World(**task.metadata["world"]))
        assert task.answer == " ".join(answer)
        assert task.difficulty == look_ups


def test_kinds_and_widths_are_equally_likely() -> None:
    tasks = list(FanOutTasks(widths=(1, 4), size=2000))
    kinds = Counter(task.prompt.split()[0] for task in tasks)
    assert set(kinds) == {"fan", "chain", "mix"}
    assert min(kinds.values()) > 550
    widths = Counter(len(task.metadata["parts"]) for task in tasks if task.prompt.startswith("fan"))
    assert set(widths) == {1, 2, 3, 4}
    assert min(widths.values()) > 120


def test_relations_are_permutations_that_differ_between_tasks() -> None:
    world, other = World(1, 24, 8), World(2, 24, 8)
    tables = [tuple(w.look_up(entity, "R3") for entity in w.entities) for w in (world, other)]
    assert sorted(tables[0]) == sorted(world.entities)
    assert tables[0] != tables[1]
    assert tables[0] != tuple(world.look_up(entity, "R4") for entity in world.entities)


@pytest.mark.parametrize(
    ("kwargs", "structure", "width"),
    [
        ({"kinds": ["chain"], "lengths": (4, 4)}, "chained", 1),
        ({"kinds": ["fan"], "widths": (1, 1)}, "chained", 1),
        ({"kinds": ["fan"], "widths": (3, 3)}, "independent", 3),
        ({"kinds": ["fan"], "widths": (4, 4), "hops": (1, 1)}, "independent", 4),
        ({"kinds": ["mix"], "widths": (2, 2)}, "mixed", 2),
    ],
)
def test_metadata_says_what_can_run_side_by_side(kwargs: dict[str, Any], structure: str, width: int) -> None:
    task = FanOutTasks(size=1, **kwargs)[0]
    assert task.metadata["structure"] == structure
    assert task.metadata["oracle_width"] == width


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kinds": []}, "kinds must be one or more of fan, chain, mix, found none"),
        ({"kinds": ["fan", "tree"]}, "found fan, tree"),
        ({"widths": (0, 2)}, "widths must be within 1 to 8"),
        ({"hops": (3, 2)}, "hops must be within 1 to 8"),
        ({"lengths": (1, 9)}, "lengths must be within 1 to 8"),
        ({"entities": 1}, "entities must be within"),
        ({"relations": 13}, "relations must be within"),
        ({"entities": 5, "relations": 5}, "a task of 13 look-ups needs a world of at least 26 .* found 5 times 5"),
    ],
)
def test_impossible_tasks_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FanOutEnv(**options)


def test_a_task_can_be_solved_without_repeating_a_look_up() -> None:
    for task in FanOutTasks("test", size=300):
        world = World(**task.metadata["world"])
        parts = [*task.metadata["parts"]]
        if task.metadata["then"] is not None:
            index, relation = task.metadata["then"]
            parts.append([(task.answer or "").split()[index - 1], relation])
        made = [pair for part in parts for pair in zip([part[0], *world.follow(part)], part[1:], strict=False)]
        assert len(set(made)) == len(made) == task.difficulty
