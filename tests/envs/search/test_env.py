"""The Search environment on a small corpus, and on real questions where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tantivy", reason="needs tantivy: pip install forethought[search]")

from forethought.agents import EnvSpec
from forethought.agents.env_spec import EnvSpecError
from forethought.envs import Call, Task, ToolEnv
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.search import PassageIndex, load_questions
from forethought.envs.search.env import SearchEnv
from forethought.envs.search.scripts import gold_decomposition

DATA = Path(os.environ.get("FORETHOUGHT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")

PASSAGES = [
    {"title": "Aldo (film)", "text": "Aldo is a film of 1961 directed by Ada Moss."},
    {"title": "Ada Moss", "text": "Ada Moss was a director, born in Turin."},
    {"title": "[Rec]", "text": "Rec is a horror film 中文 🎈."},
    {"title": "Turin", "text": "Turin is a city on the river Po."},
]
QUESTIONS: list[dict[str, Any]] = [
    {
        "id": "q1", "question": "Who directed Aldo?", "answer": ["Ada Moss", "Miss Moss"],
        "metadata": {"supporting": ["Ada Moss"]},
    },
    {"id": "q2", "question": "Where was the director of Aldo born?", "answer": "Turin", "difficulty": 2},
]  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    _write(folder / "corpus.jsonl", PASSAGES)
    _write(folder / "questions.jsonl", QUESTIONS)
    return folder


@pytest.fixture
def env(data: Path) -> SearchEnv:
    return SearchEnv(corpus=data / "corpus.jsonl", questions=data / "questions.jsonl")


class TestSearch(EnvConformance):
    data: Path

    @pytest.fixture(autouse=True)
    def _corpus(self, data: Path) -> None:
        self.data = data

    def make(self, **kwargs: Any) -> ToolEnv:
        return SearchEnv(corpus=self.data / "corpus.jsonl", questions=self.data / "questions.jsonl", **kwargs)

    def solve(self, env: ToolEnv) -> Script:
        plan = None if env.mode == "bare" else ["search", "answer"]
        calls = [Call("search", {"query": env.task.prompt, "k": 2}), Call("open", {"document": "Turin"})]
        yield env.codec.write_turn(plan=plan, calls=calls)
        yield env.codec.write_turn(answer=env.task.answer)


class TestBareSearch(TestSearch):
    def make(self, **kwargs: Any) -> ToolEnv:
        return super().make(mode="bare", **kwargs)


def _call(env: SearchEnv, name: str, **arguments: Any) -> str:
    plan = ["look"] if env.plan is None else None
    return env.step(env.codec.write_turn(plan=plan, calls=[Call(name, arguments)]))[0]


def test_search_gives_passages_with_their_ids(env: SearchEnv) -> None:
    env.reset(options={"task": 0})
    text = _call(env, "search", query="film directed by Ada Moss", k=2)
    assert "Aldo (film): Aldo is a film of 1961 directed by Ada Moss." in text and "Ada Moss: " in text
    assert "No passage matches." in _call(env, "search", query="zeppelin")
    for k in (0, 21):
        assert f"k must be 1 to 20, found {k}" in _call(env, "search", query="film", k=k)


def test_open_takes_ids_and_titles(env: SearchEnv) -> None:
    env.reset(options={"task": 0})
    found = _call(env, "search", query="Turin river", k=1)
    name = found[found.index("[") : found.index("]") + 1]
    for document in ("Turin", name, name[1:-1], f" {name} "):
        assert "Turin is a city on the river Po." in _call(env, "open", document=document)
    assert "horror film 中文 🎈" in _call(env, "open", document="[Rec]")
    assert "there is no document 'Milan'; take an id" in _call(env, "open", document="Milan")


def test_answers_are_compared_as_usual(env: SearchEnv) -> None:
    for answer, correct, f1 in (
        ("ada moss.", 1.0, 1.0),
        ("The Miss Moss", 1.0, 1.0),
        ("Moss", 0.0, 2 / 3),
        ("x", 0.0, 0.0),
    ):
        env.reset(options={"task": 0})
        _, reward, terminated, _, info = env.step(env.codec.write_turn(plan=["answer"], answer=answer))
        assert terminated and reward == info["scores"]["correct"] == correct
        assert info["scores"]["f1"] == pytest.approx(f1)


def test_support_is_what_came_up_in_this_episode(env: SearchEnv) -> None:
    for look, support in ((True, 1.0), (False, 0.0)):
        env.reset(options={"task": 0})
        if look:
            _call(env, "open", document="Ada Moss")
        turn = env.codec.write_turn(plan=None if look else ["guess"], answer="x")
        assert env.step(turn)[4]["scores"]["support"] == support
    env.reset(options={"task": 1})
    assert "support" not in env.step(env.codec.write_turn(plan=["guess"], answer="x"))[4]["scores"]


def test_an_episode_that_a_budget_ended_is_wrong(data: Path) -> None:
    env = SearchEnv(corpus=data / "corpus.jsonl", questions=data / "questions.jsonl", budget={"turns": 1})
    env.reset(options={"task": 0})
    _, reward, _, truncated, info = env.step(
        env.codec.write_turn(plan=["a"], calls=[Call("open", {"document": "Turin"})])
    )
    assert truncated and reward == 0.0 and info["scores"] == {"correct": 0.0, "f1": 0.0, "support": 0.0}


def test_instances_share_what_they_read_until_the_file_changes(tmp_path: Path) -> None:
    corpus, questions = _write(tmp_path / "c.jsonl", PASSAGES), _write(tmp_path / "q.jsonl", QUESTIONS)
    first = SearchEnv(corpus=corpus, questions=questions)
    assert SearchEnv(corpus=str(corpus), questions=str(questions)).tasks is first.tasks
    _write(questions, QUESTIONS[:1])
    os.utime(questions, (1, 1))
    assert len(SearchEnv(corpus=corpus, questions=questions).tasks) == 1


def test_an_index_folder_is_a_corpus_too(data: Path, tmp_path: Path) -> None:
    PassageIndex.from_corpus(data / "corpus.jsonl", tmp_path / "index")
    env = SearchEnv(corpus=tmp_path / "index", tasks=[Task(id="a", prompt="p", answer="x")])
    env.reset(options={"task": 0})
    assert "river Po" in _call(env, "open", document="Turin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": None}, "either corpus=<file or index folder> or retriever_url="),
        ({"retriever_url": "http://localhost"}, "either corpus=<file or index folder> or retriever_url="),
        ({"questions": None}, "either questions=<file of questions> or tasks="),
        ({"corpus": "nowhere.jsonl"}, "corpus 'nowhere.jsonl' cannot be read: No such file or directory"),
        ({"questions": "nowhere.jsonl"}, "questions 'nowhere.jsonl' cannot be read: No such file or directory"),
        ({"corpus": None, "retriever_url": "localhost"}, "url to start with http"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str, data: Path) -> None:
    arguments = {"corpus": str(data / "corpus.jsonl"), "questions": str(data / "questions.jsonl"), **changes}
    with pytest.raises(EnvSpecError) as error:
        EnvSpec(id="forethought/Search-v0", kwargs=arguments).make()
    assert message in str(error.value)


def test_broken_files_are_told_of_in_one_sentence(data: Path, tmp_path: Path) -> None:
    broken = _write(tmp_path / "broken.jsonl", [QUESTIONS[0], {"question": "no answer"}])
    empty = tmp_path / "empty_index"
    empty.mkdir()
    for changes, message in (
        ({"questions": str(broken)}, "broken.jsonl, line 2"),
        ({"corpus": str(broken)}, "broken.jsonl, line 1"),
        ({"corpus": str(empty)}, "empty_index"),
    ):
        arguments = {"corpus": str(data / "corpus.jsonl"), "questions": str(data / "questions.jsonl"), **changes}
        with pytest.raises(EnvSpecError) as error:
            EnvSpec(id="forethought/Search-v0", kwargs=arguments).make()
        assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.skipif(
    not (DATA / "musique_train.json").is_file(), reason=f"needs musique_train.json in FORETHOUGHT_DATA ({DATA})"
)
@pytest.mark.parametrize("name", ["musique", "hotpotqa"])
def test_real_questions(name: str) -> None:
    env = SearchEnv(corpus=DATA / f"{name}_train_corpus.json", questions=DATA / f"{name}_train.json")
    assert len(env.tasks) == 100
    right = found = 0.0
    for index, question in enumerate(load_questions(DATA / f"{name}_train.json")[:30]):
        env.reset(seed=index, options={"task": index})
        assert env.task.prompt == question["prompt"]
        if name == "musique":
            script = gold_decomposition(env)
            turn, done = next(script), False
            while not done:
                text, _, terminated, truncated, info = env.step(turn)
                done = terminated or truncated
                if not done:
                    turn = script.send(text)
            right += info["scores"]["correct"]
        else:
            _call(env, "search", query=env.task.prompt, k=20)
            info = env.step(env.codec.write_turn(answer=env.task.answer))[4]
        found += info["scores"]["support"]
    assert found / 30 > 0.8 and (name != "musique" or right / 30 > 0.8)
