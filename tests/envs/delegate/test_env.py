"""The Delegate environment, on a small corpus and on documents that stand in the task."""

from pathlib import Path
from typing import Any

import gymnasium
import pytest

from forethought.envs import Call, SubTaskEnv, Task, ToolEnv
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.delegate import DelegateEnv
from forethought.envs.delegate.scripts import serial
from forethought.envs.tasks import TaskError
from tests.envs.delegate.small_data import write

BOOK = Task(
    id="book",
    prompt="Where does Ada live?",
    answer="Oslo",
    aliases=("Oslo, Norway",),
    metadata={
        "documents": [
            {"title": "Part one", "text": "\n\n".join(f"Nothing happens on day {i}." for i in range(1, 31))},
            {"title": "Part two", "text": "Ada moved away.\n\nIt was to OSLO\nthat she went."},
        ],
        "supporting": [31, 32],
    },
)


class TestDelegate(EnvConformance):
    data: dict[str, Any]

    @pytest.fixture(autouse=True)
    def _data(self, data: dict[str, Any]) -> None:
        self.data = data

    def make(self, **kwargs: Any) -> ToolEnv:
        return DelegateEnv(**self.data, words=1500, **kwargs)

    def solve(self, env: ToolEnv) -> Script:
        return serial(env)


class TestBareDelegate(TestDelegate):
    def make(self, **kwargs: Any) -> ToolEnv:
        return super().make(mode="bare", find=True, sub_models=[], **kwargs)


class TestDelegateInWords(TestDelegate):
    def make(self, **kwargs: Any) -> ToolEnv:
        return super().make(spelling="words", **kwargs)


@pytest.fixture
def env() -> DelegateEnv:
    env = DelegateEnv(tasks=[BOOK], find=True)
    env.reset(seed=0)
    return env


def call(env: ToolEnv, name: str, **arguments: Any) -> str:
    plan = ["look"] if env.plan is None else None
    observation: str = env.step(env.codec.write_turn(plan=plan, calls=[Call(name, arguments)]))[0]
    return observation.removeprefix("<tool_response>\n").removesuffix("\n</tool_response>")


def answer(env: ToolEnv, text: str) -> dict[str, float]:
    plan = ["answer"] if env.plan is None else None
    scores: dict[str, float] = env.step(env.codec.write_turn(plan=plan, answer=text))[4]["scores"]
    return scores


def test_the_policy_sees_what_the_document_is_like_and_not_its_text(env: DelegateEnv) -> None:
    prompt = env.task_prompt()
    assert "numbered from 1 to 32" in prompt and "The document has 32 paragraphs and 160 words." in prompt
    assert "Paragraphs 1 to 30: Part one (150 words)\nParagraphs 31 to 32: Part two (10 words)" in prompt
    assert prompt.endswith("Question: Where does Ada live?")
    assert "OSLO" not in prompt and "Nothing happens" not in prompt


def test_a_list_of_parts_that_is_too_long_is_cut() -> None:
    documents = [{"title": f"T{i}", "text": "x"} for i in range(50)]
    env = DelegateEnv(tasks=[Task(id="t", prompt="?", answer="x", metadata={"documents": documents})])
    prompt = env.reset(seed=0)[0]
    assert "Paragraphs 40 to 40: T39 (1 words)\n... and 10 more parts\n" in prompt


def test_it_is_told_who_can_read() -> None:
    def prompt(**options: Any) -> str:
        env = DelegateEnv(tasks=[BOOK], **options)
        env.reset(seed=0)
        return env.task_prompt()

    assert "name the paragraphs" in prompt() and "ask sub-models of their own" in prompt()
    assert "ask sub-models of their own" not in prompt(budget={"depth": 1})
    assert "sub-model" not in prompt(sub_models=[])
    both = prompt(sub_models=["self", "big"])
    assert "name the paragraphs" in both and "The sub-models big have no tools: copy" in both
    assert "name the paragraphs" not in prompt(sub_models=["big"])


def test_read_gives_numbered_paragraphs_as_many_as_fit(env: DelegateEnv) -> None:
    assert call(env, "read", start=2) == "[2] Nothing happens on day 2."
    lines = call(env, "read", start=5, count=12).splitlines()
    assert lines[:10] == [f"[{i}] Nothing happens on day {i}." for i in range(5, 15)]
    assert lines[10:] == ["(Paragraphs 15 to 16 do not fit in one call: go on with start 15.)"]
    assert call(env, "read", start=31, count=9) == (
        "[31] Ada moved away.\n[32] It was to OSLO that she went.\n(This is the end of the document.)"
    )


@pytest.mark.parametrize(
    ("start", "count", "message"),
    [
        (0, 1, "start must be 1 to 32, found 0"),
        (33, 1, "start must be 1 to 32, found 33"),
        (1, 0, "count must be at least 1, found 0"),
    ],
)
def test_what_cannot_be_read_is_said(start: int, count: int, message: str, env: DelegateEnv) -> None:
    assert call(env, "read", start=start, count=count) == f"Error: {message}"


def test_no_paragraph_is_ever_cut(env: DelegateEnv) -> None:
    text = "\n\n".join("long " * 380 for _ in range(10))
    task = Task(id="t", prompt="?", answer="x", metadata={"documents": [{"text": text}], "supporting": [1, 2]})
    env = DelegateEnv(tasks=[task], max_output=4200)
    env.reset(seed=0)
    output = call(env, "read", start=1, count=10)
    assert output.count("long") == 760 and "cut" not in output and "go on with start 3" in output
    assert answer(env, "x")["coverage"] == 0.2


def test_find_is_an_option(env: DelegateEnv) -> None:
    assert [tool.name for tool in DelegateEnv(tasks=[BOOK]).toolbox.tools] == ["read", "ask"]
    assert call(env, "find", text="to  oslo that") == "It stands in paragraphs 32."
    assert call(env, "find", text="Oslo.*that") == "It stands in no paragraph."
    assert call(env, "find", text="day").endswith("19, 20 and 10 more.")
    assert "expected words to look for" in call(env, "find", text=" ")
    assert answer(env, "x")["coverage"] == 0.0, "to find is not to read"


def test_answers_are_compared_as_usual(env: DelegateEnv) -> None:
    for text, correct, f1 in (("oslo.", 1.0, 1.0), ("Oslo Norway", 1.0, 1.0), ("in Oslo", 0.0, 2 / 3), ("x", 0.0, 0.0)):
        env.reset(seed=0)
        scores = answer(env, text)
        assert scores["correct"] == correct and scores["f1"] == pytest.approx(f1)


def test_scores_say_what_was_read(env: DelegateEnv) -> None:
    call(env, "read", start=31, count=1)
    call(env, "read", start=25, count=8)
    call(env, "read", start=40)
    scores = answer(env, "Oslo")
    assert scores == {"correct": 1.0, "f1": 1.0, "evidence": 1.0, "coverage": 8 / 32, "read_share": 8 / 32}
    env.reset(seed=0)
    assert answer(env, "Oslo") == {"correct": 1.0, "f1": 1.0, "evidence": 0.0, "coverage": 0.0, "read_share": 0.0}


def test_a_sub_task_reads_the_same_document_on_the_account_of_the_tree(env: DelegateEnv) -> None:
    child = SubTaskEnv(env, "Read paragraphs 30 to 31 and say who moves.", 0)
    assert child.opening.endswith("Read paragraphs 30 to 31 and say who moves."), "it knows only what it is told"
    assert "[31] Ada moved away." in call(child, "read", start=30, count=2)
    assert "It stands in paragraphs 32." in call(child, "find", text="oslo")
    scores = answer(env, "Oslo")
    assert (scores["evidence"], scores["coverage"], scores["read_share"]) == (0.5, 2 / 32, 0.0)


def test_tasks_that_do_not_name_their_support_have_no_score_for_it() -> None:
    task = Task(id="t", prompt="?", answer="x", metadata={"documents": [{"text": "a\n\nb"}]})
    env = DelegateEnv(tasks=[task])
    env.reset(seed=0)
    assert "evidence" not in answer(env, "x")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "task 't' has no document: expected \"documents\""),
        ({"documents": [{"title": "x"}]}, "task 't' has no document"),
        ({"documents": "text"}, "task 't' has no document"),
        ({"passages": [1]}, "task 't' has no document"),
        ({"documents": [{"text": " \n"}]}, "expected a document with text"),
        ({"documents": [{"text": "a"}], "supporting": [2]}, r"found 1 paragraphs, supporting \[2\]"),
        ({"passages": ["p1"]}, "task 't' names passages of a corpus; give corpus="),
    ],
)
def test_a_task_without_a_document_is_refused(metadata: dict[str, Any], message: str) -> None:
    env = DelegateEnv(tasks=[Task(id="t", prompt="?", answer="x", metadata=metadata)])
    with pytest.raises(TaskError, match=message):
        env.reset(seed=0)


def test_a_task_may_name_passages_of_the_corpus(data: dict[str, Any], tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", [{"id": "p1", "title": "A", "text": "b c"}, {"id": "p2", "text": "d"}])
    task = Task(id="t", prompt="?", answer="x", metadata={"passages": ["p2", "p1"]})
    env = DelegateEnv(corpus=corpus, tasks=[task])
    env.reset(seed=0)
    assert call(env, "read", start=1, count=2).splitlines()[:2] == ["[1] d", "[2] A: b c"]
    env = DelegateEnv(corpus=data["corpus"], tasks=[task])
    with pytest.raises(TaskError, match=r"task 't' needs the passage 'p2', which is not in .*corpus.jsonl"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either questions=<file of questions> or tasks"),
        ({"tasks": [BOOK], "questions": "q.jsonl"}, "either questions=<file of questions> or tasks"),
        ({"questions": "q.jsonl"}, "needs corpus=<file of passages>"),
        ({"tasks": [BOOK], "corpus": "nowhere.jsonl"}, "corpus 'nowhere.jsonl' cannot be read"),
        ({"tasks": [BOOK], "page": 0}, "page must be at least 1 paragraph, found 0"),
        ({"tasks": [BOOK], "max_output": 500}, "max_output must be at least 2200 characters"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DelegateEnv(**options)


def test_it_can_be_made_by_its_id_and_shares_what_it_reads(data: dict[str, Any]) -> None:
    first, second = (gymnasium.make("forethought/Delegate-v0", **data, words=[1000, 2000]).unwrapped for _ in range(2))
    assert isinstance(first, DelegateEnv) and isinstance(second, DelegateEnv)
    assert first.tasks is second.tasks and len(first.tasks) == 8
    assert first.budget.depth == 2 and first.sub_models == ("self",)
