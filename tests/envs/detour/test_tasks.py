from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from forethought.envs.detour.tasks import RELATIONS, DetourOptions, DetourTasks, unseen_pairs
from forethought.envs.tasks import Task


def tasks(count: int = 300, **options: Any) -> list[Task]:
    return list(DetourTasks("train", DetourOptions(**options), count))


def pairs(task: Task) -> list[list[tuple[str, str]]]:
    return [list(pairwise(route)) for route in task.metadata["routes"]]


def test_the_prompt_says_the_routes_what_they_promise_and_the_start() -> None:
    for task in tasks(50, broken=0.5):
        routes, start = task.prompt.removeprefix("routes ").split(" start ")
        assert start == task.metadata["start"]
        for text, route in zip(routes.split(" or "), task.metadata["routes"], strict=True):
            assert text.split()[::2] == route
            assert text.split()[1::2] == [task.metadata["promises"][relation] for relation in route]


def test_routes_differ_in_length_and_share_no_relation() -> None:
    lengths: Counter[int] = Counter()
    for task in tasks(hops=(1, 4), routes=(2, 3)):
        routes = task.metadata["routes"]
        assert len({len(route) for route in routes}) == len(routes)
        relations = [relation for route in routes for relation in route]
        assert len(set(relations)) == len(relations)
        lengths.update(map(len, routes))
    assert set(lengths) == {1, 2, 3, 4}
    assert min(lengths.values()) > 100


def test_as_many_tasks_are_broken_as_asked_for_and_any_route_may_be() -> None:
    made = tasks(1000, broken=0.3, routes=(2, 2))
    broken = [task.metadata["broken"] for task in made]
    assert 240 < sum(map(bool, broken)) < 360
    first = sum(numbers == [0] for numbers in broken)
    assert 0.4 < first / sum(map(bool, broken)) < 0.6
    assert not any(task.metadata["broken"] for task in tasks(broken=0.0))


def test_two_failures_in_a_row_break_the_two_shortest_routes() -> None:
    for task in tasks(50, broken=1.0, failures=2, routes=(3, 3), broken_first=True):
        lengths = [len(route) for route in task.metadata["routes"]]
        assert [lengths.index(n) for n in sorted(lengths)[:2]] == sorted(
            task.metadata["broken"], key=lengths.__getitem__
        )


def test_difficulty_is_what_the_oracle_needs() -> None:
    for task in tasks(100, broken=0.0):
        assert task.difficulty == task.metadata["oracle_calls"] == min(map(len, task.metadata["routes"]))
    for task in tasks(100, broken=1.0, traps=0.0, hops=(1, 1), routes=(2, 2)):
        assert task.difficulty == 1 + (task.metadata["broken"] == [0])


def test_unseen_pairs_are_in_every_route_with_the_option_and_in_none_without() -> None:
    held_out = unseen_pairs()
    assert 0.15 < len(held_out) / len(RELATIONS) ** 2 < 0.25
    assert not any(pair in held_out for task in tasks() for route in pairs(task) for pair in route)
    for task in tasks(100, unseen_pairs=True, hops=(2, 4)):
        assert all(sum(pair in held_out for pair in route) == 1 for route in pairs(task))


def test_the_longest_routes_can_be_made() -> None:
    for unseen in (False, True):
        assert len(tasks(50, hops=(8, 8), routes=(3, 3), unseen_pairs=unseen)) == 50


def test_names_are_drawn_anew_in_every_task() -> None:
    made = tasks(200)
    assert len({task.metadata["start"] for task in made}) > 20
    assert len({task.metadata["routes"][0][0] for task in made}) > 15


def test_tasks_of_different_options_and_splits_have_different_ids() -> None:
    kinds = [DetourOptions(), DetourOptions(broken=0.6), DetourOptions(traps=1.0), DetourOptions(hops=(2, 4))]
    ids = [DetourTasks(split, kind)[0].id for split in ("train", "validation", "test") for kind in kinds]
    assert len(set(ids)) == len(ids)
    assert DetourTasks("train", DetourOptions(broken=0))[0].id == DetourTasks("train", DetourOptions(broken=0.0))[0].id


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"hops": (3, 2)}, "hops must be"),
        ({"hops": (0, 2)}, "hops must be"),
        ({"hops": (1, 9)}, "largest <= 8"),
        ({"routes": (2, 4)}, "largest <= 3"),
        ({"broken": 1.5}, "broken is a share"),
        ({"traps": -0.1}, "traps is a share"),
        ({"failures": 2}, "must leave a sound route"),
        ({"unseen_pairs": True}, "at least 2 hops"),
        ({"entities": 100}, "entities must be 12 to"),
        ({"entities": 22, "hops": (5, 8)}, "entities must be 23 to"),
    ],
)
def test_impossible_tasks_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DetourOptions(**options)
