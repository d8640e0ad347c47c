"""Documents of a chosen length around the supporting passages of questions."""

import os
from pathlib import Path
from typing import Any

import pytest

from forethought.envs import TaskError
from forethought.envs.delegate import WINDOW_WORDS, DelegateEnv, long_document_tasks
from tests.envs.delegate.small_data import passages, questions, write

DATA = Path(os.environ.get("FORETHOUGHT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")


def supporting_paragraphs(env: DelegateEnv) -> list[str]:
    return [env.document[number] for number in env.task.metadata["supporting"]]


def test_documents_have_the_length_asked_for_and_the_supporting_passages(data: dict[str, Any]) -> None:
    env = DelegateEnv(**data, words=[1000, 5000])
    assert len(env.tasks) == 8
    for index, words in enumerate([1000, 5000] * 4):
        env.reset(options={"task": index})
        task, film = env.task, index // 2
        assert task.id == f"q{film}@{words}w"
        assert words - 30 < env.document.words <= words
        assert task.difficulty == env.document.words / WINDOW_WORDS == task.metadata["words"] / WINDOW_WORDS
        assert len({*task.metadata["passages"]}) == len(task.metadata["passages"]) == len(env.document)
        texts = supporting_paragraphs(env)
        assert sorted(text.split(":")[0] for text in texts) == sorted(questions()[film]["metadata"]["supporting"])


def test_evidence_is_spread_and_stands_anywhere(data: dict[str, Any]) -> None:
    places = []
    for seed in range(100):
        for task in long_document_tasks(data["corpus"], data["questions"], words=2000, seed=seed):
            count = len(task.metadata["passages"])
            first, second = task.metadata["supporting"]
            assert second - first >= count // 4 - 1
            places += [first / count, second / count]
    for tenth in range(10):
        assert sum(tenth / 10 < place <= (tenth + 1) / 10 for place in places) > 20


def test_the_order_of_the_evidence_says_nothing(data: dict[str, Any]) -> None:
    film_first = 0
    for seed in range(50):
        env = DelegateEnv(**data, words=1000, document_seed=seed)
        env.reset(options={"task": 0})
        film_first += supporting_paragraphs(env)[0].startswith("Film")
    assert 10 < film_first < 40


def test_a_task_depends_on_nothing_but_its_question_length_and_seed(data: dict[str, Any]) -> None:
    def rows(words: list[int], seed: int = 0) -> dict[str, Any]:
        tasks = long_document_tasks(data["corpus"], data["questions"], words=words, seed=seed)
        return {task.id: task.to_row() for task in tasks}

    both = rows([1000, 2000])
    assert both == rows([2000, 1000]) and rows([2000]).items() <= both.items()
    assert rows([2000], seed=1)["q0@2000w"] != both["q0@2000w"]


def test_a_whole_corpus_is_a_document_too(data: dict[str, Any]) -> None:
    words = sum(len(f"{row['title']}: {row['text']}".split()) for row in passages())
    env = DelegateEnv(**data, words=words)
    env.reset(options={"task": 3})
    assert (len(env.document), env.document.words) == (len(passages()), words)


def test_a_long_supporting_passage_is_several_paragraphs(tmp_path: Path) -> None:
    rows = [*passages(), {"title": "Long", "text": "It is so. " * 300}]
    asked = [{"question": "Is it?", "answer": "yes", "metadata": {"supporting": ["Long", "Film 0"]}}]
    corpus, path = write(tmp_path / "c.jsonl", rows), write(tmp_path / "q.jsonl", asked)
    env = DelegateEnv(corpus=corpus, questions=path, words=3000)
    env.reset(options={"task": 0})
    texts = supporting_paragraphs(env)
    assert len(texts) == 3 and sum("It is so." in text for text in texts) == 2


@pytest.mark.parametrize(
    ("words", "supporting", "message"),
    [
        (10**6, ["Film 0"], "documents of 1000000 words need a corpus of as many; .*corpus.jsonl has "),
        (1000, ["Film 9"], "question 'q' needs the passage 'Film 9', which is not in .*corpus.jsonl"),
        (1000, [], "question 'q' names no supporting passages"),
        (12, ["Film 0", "Ada Moss"], "question 'q' needs passages of 19 words; documents have 12"),
        ([], ["Film 0"], r"words must be one length or several different ones, found \[\]"),
        ([500, 500], ["Film 0"], r"several different ones, found \[500, 500\]"),
    ],
)
def test_what_cannot_be_made_is_refused(
    words: Any, supporting: list[str], message: str, data: dict[str, Any], tmp_path: Path
) -> None:
    asked = [{"id": "q", "question": "Who?", "answer": "x", "metadata": {"supporting": supporting}}]
    path = write(tmp_path / "q.jsonl", asked)
    with pytest.raises(ValueError, match=message):
        long_document_tasks(data["corpus"], path, words=words)


def test_questions_that_are_not_there_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"questions 'nowhere.json' cannot be read: No such file"):
        long_document_tasks(data["corpus"], "nowhere.json")
    assert issubclass(TaskError, ValueError)


@pytest.mark.skipif(
    not (DATA / "musique_train.json").is_file(),
    reason=f"needs musique_train.json and hotpotqa_train.json in FORETHOUGHT_DATA ({DATA})",
)
@pytest.mark.parametrize("name", ["musique", "hotpotqa"])
def test_real_questions(name: str) -> None:
    tasks = long_document_tasks(
        DATA / f"{name}_train_corpus.json", DATA / f"{name}_train.json", words=[4000, 16_000, 64_000]
    )
    assert len(tasks) == 300
    for index, words in enumerate([4000, 16_000, 64_000] * 4):
        task = tasks[index]
        numbers = task.metadata["supporting"]
        assert words - 400 < task.metadata["words"] <= words
        assert len(numbers) >= 2 and numbers[-1] - numbers[0] >= len(task.metadata["passages"]) / 5
