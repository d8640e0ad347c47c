from typing import Any

import pytest
from forethought.envs.pointer import PointerEnv, PointerTasks
from forethought.envs.pointer.scripts import oracle, uninformed_plan


def test_the_answer_is_where_the_path_ends() -> None:
    for task in PointerTasks("test", hops=(0, 8), size=200):
        words = task.prompt.split()
        cells, start, hops = words[1:-4], words[-3], int(words[-1])
        table = dict(zip(cells[::2], cells[1::2], strict=True))
        assert sorted(table) == sorted(table.values())
        symbol = start
        for _ in range(hops):
            symbol = table[symbol]
        assert task.answer == symbol
        assert task.difficulty == hops


def test_every_number_of_hops_is_equally_likely() -> None:
    counts = Counter(task.difficulty for task in PointerTasks(hops=(1, 4), size=2000))
    assert set(counts) == {1, 2, 3, 4}
    assert min(counts.values()) > 400


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"hops": (3, 2)}, "hops must be"), ({"hops": (-1, 2)}, "hops must be"), ({"symbols": 27}, "symbols must be 2 to 26")],
)
def test_impossible_tasks_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PointerEnv(**options)


def test_every_word_of_an_episode_is_in_the_vocabulary() -> None:
    env = PointerEnv(hops=(0, 12))
    known = set(env.vocabulary())
    for seed in range(100):
        prompt, _ = env.reset(seed=seed)
        assert set(prompt.split()) <= known
        for script in (oracle, uninformed_plan):
            words = next(script(env)).split()
            assert {word for word in words if not word.startswith("<")} <= known


def test_the_plans_of_the_mixture_say_nothing_about_the_task() -> None:
    env = PointerEnv()
    planned = Counter()  # type: Counter[str]
    correct = 0.0
    for seed in range(300):
        env.reset(seed=seed)
        turn = next(uninformed_plan(env))
        correct += env.step(turn)[1]
        assert env.plan is not None
        planned[env.plan.steps[0].text] += 1
    assert set(planned) == {f"follow {n}" for n in range(13)}
    assert 100 < correct < 290
