import re
from itertools import pairwise
from typing import Any

import pytest

from forethought.envs.stream import StreamEnv, StreamTasks
from forethought.envs.stream.facts import follow, newest, read_facts
from forethought.envs.stream.tasks import held_out_pairs


def test_following_the_newest_facts_gives_the_answer() -> None:
    for query in ("start", "end"):
        for task in StreamTasks("train", chunks=(3, 5), hops=(1, 2), query=query, size=200):
            chunks = task.metadata["chunks"]
            path = follow(newest(read_facts(" ".join(chunks))), task.metadata["query"])
            assert path == task.metadata["path"] and path[-1] == task.answer
            assert len(set(path)) == len(path)
            assert len(chunks) == task.difficulty
            assert all(len(read_facts(chunk)) == 5 for chunk in chunks)


def test_the_query_is_in_the_prompt_or_in_the_last_chunk() -> None:
    at_start = StreamTasks(hops=(2, 2))[0]
    assert at_start.prompt.split() == ["query", *at_start.metadata["query"]]
    last = {task.metadata["chunks"][-1].split("query ")[1] == " ".join(task.metadata["queries"][0])
            for task in StreamTasks(hops=(1, 2), query="end", size=50)}  # fmt: skip
    assert last == {True, False}, "either query of the prompt may be the one that counts"


def test_the_answer_never_comes_with_the_last_chunk() -> None:
    for query in ("start", "end"):
        for task in StreamTasks(chunks=(3, 4), hops=(1, 2), query=query, size=200):
            for start, *relations in task.metadata["queries"]:
                known = newest(read_facts(" ".join(task.metadata["chunks"])))
                entity = follow(known, [start, *relations])[-2]
                assert (entity, relations[-1]) not in newest(read_facts(task.metadata["chunks"][-1]))


def test_what_can_matter_is_bounded_however_long_the_stream_is() -> None:
    for chunks in (3, 64):
        for task in StreamTasks(chunks=(chunks, chunks), hops=(1, 3), size=50):
            _, *relations = task.metadata["query"]
            known = newest(read_facts(" ".join(task.metadata["chunks"])))
            assert sum(r in relations for _, r in known) == len(relations) + 3


def test_the_share_of_overwritten_facts() -> None:
    gold = overwritten = 0
    for task in StreamTasks(chunks=(6, 6), overwritten=0.15, size=2000):
        seen: set[tuple[str, str, str]] = set(read_facts(" ".join(task.metadata["chunks"])))
        for (a, b), r in zip(pairwise(task.metadata["path"]), task.metadata["query"][1:], strict=True):
            gold += 1
            overwritten += any((e, s) == (a, r) and v != b for e, s, v in seen)
    assert 0.13 < overwritten / gold < 0.17
    for task in StreamTasks(overwritten=0.0, size=50):
        facts = read_facts(" ".join(task.metadata["chunks"]))
        assert len(newest(facts)) == len(facts)


def test_pairs_of_relations_are_held_out() -> None:
    held_out = held_out_pairs(9)
    assert len(held_out) == 14  # a fifth of 72

    def pairs(**options: Any) -> list[set[tuple[str, str]]]:
        return [set(pairwise(task.metadata["query"][1:])) for task in StreamTasks(hops=(2, 3), size=300, **options)]

    assert all(not found & held_out for found in pairs(pairs="train"))
    assert all(found & held_out for found in pairs(pairs="held_out"))
    assert len({bool(found & held_out) for found in pairs(pairs="all")}) == 2


def test_splits_and_settings_have_tasks_and_ids_of_their_own() -> None:
    settings: list[dict[str, Any]] = [
        {}, {"split": "validation"}, {"chunks": (3, 7)}, {"facts": 6}, {"entities": 30}, {"relations": 8},
        {"hops": (2, 3)}, {"query": "end", "hops": (1, 2)}, {"overwritten": 0.2}, {"shared": 2}, {"pairs": "all"},
    ]  # fmt: skip
    tasks = [StreamTasks(**setting)[5] for setting in settings]
    assert len({task.id for task in tasks}) == len(tasks)
    assert StreamTasks()[5] == tasks[0] and StreamTasks("validation")[5].prompt != tasks[0].prompt


def test_every_word_is_in_the_vocabulary() -> None:
    for options in ({"hops": (3, 3)}, {"query": "end", "chunks": (4, 4)}):
        env = StreamEnv(**options)
        known = set(env.vocabulary())
        for seed in range(30):
            prompt, _ = env.reset(seed=seed)
            text = " ".join([prompt, *env.task.metadata["chunks"]])
            assert set(text.split()) <= known
            assert re.fullmatch(r"(E\d+|R\d+|query|or|;| )+", text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"chunks": (1, 3)}, "chunks must be"),
        ({"chunks": (4, 3)}, "chunks must be"),
        ({"hops": (0, 2)}, "hops must be"),
        ({"hops": (1, 9)}, "hops must be"),
        ({"hops": (1, 5), "query": "end"}, "hops must be"),
        ({"query": "middle"}, "query is one of"),
        ({"pairs": "some"}, "query is one of"),
        ({"pairs": "held_out"}, "a query of 1 hop has no pair"),
        ({"overwritten": 1.5}, "overwritten is a share"),
        ({"facts": 3}, "3 chunks of 3 facts are too few for the 12"),
        ({"entities": 6}, "entities must be at least 7"),
    ],
)
def test_impossible_tasks_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StreamTasks(**options)
