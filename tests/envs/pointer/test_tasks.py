from collections import Counter
from typing import Any

import pytest

from forethought.envs.pointer import PointerEnv, PointerTasks
from forethought.envs.pointer.scripts import oracle


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
    [
        ({"hops": (3, 2)}, "hops must be"),
        ({"hops": (-1, 2)}, "hops must be"),
        ({"symbols": 27}, "symbols must be 2 to 26"),
    ],
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
        assert {word for word in next(oracle(env)).split() if not word.startswith("<")} <= known
