from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forethought.agents import Episode, Status
from forethought.agents.parallel import ParallelError, Spent, grade_parallel, judge_episodes
from forethought.agents.text_model import PromptRefused, TextAnswer
from forethought.sandboxes import InfrastructureFault

Make = Callable[..., Episode]


class Judge:
    """Says of each answer what it is told to say."""

    name = "judge"

    def __init__(self, replies: dict[str, str], fails_after: int = 10**6) -> None:
        self.replies = replies
        self.fails_after = fails_after
        self.prompts: list[str] = []

    async def answer(self, prompt: str) -> TextAnswer:
        if len(self.prompts) >= self.fails_after:
            raise InfrastructureFault("the judge is gone")
        self.prompts.append(prompt)
        answer = prompt.split("Answer:\n")[1].split("\n\nHow")[0]
        if answer not in self.replies:
            raise PromptRefused("too long")
        return TextAnswer(text=self.replies[answer], input_tokens=100, output_tokens=7, cost=0.5)


def run(make: Make) -> list[Episode]:
    """Two tasks, in the prompts of which stand braces."""
    rows = [("t", 1, "b"), ("t", 0, "c"), ("t", 2, "a"), ("t", 3, "a"), ("t", 4, None), ("u", 0, "a"), ("u", 1, "b")]
    return [
        make(t, i, a, task={"id": t, "prompt": "{answer} {}?", "answer": "a", "difficulty": None}) for t, i, a in rows
    ]


async def test_a_judge_chooses_and_is_paid(make_episode: Make, tmp_path: Path) -> None:
    judge = Judge({"a": "It is right.\n95", "b": "Hardly: 40%", "c": "I gave 12 reasons."})
    episodes = [*run(make_episode), make_episode("t", 9, "z", status=Status.FAULT)]
    strategy, spent = await judge_episodes(tmp_path, episodes, judge)
    assert len(judge.prompts) == 5  # each answer to a task once
    assert "Task:\n{answer} {}?\n\nAnswer:\na\n" in judge.prompts[0]
    one = Spent(sampled_tokens=7, critical_tokens=7, cost=0.5)
    assert spent == {"t/1": one, "t/0": one, "t/2": one, "u/0": one, "u/1": one}
    card = grade_parallel(episodes, [strategy], extra={strategy.name: spent})
    t, u = card.choices["judge"]
    assert (t.chosen, t.correct, t.cost) == ("t/2", True, 1.5)
    assert (u.chosen, u.cost, u.sampled_tokens) == ("u/0", 1.0, 4 + 14)
    assert [strategy.read(episode) for episode in episodes[:5]] == [0.4, 0.0, 0.95, 0.95, -1.0]


async def test_a_judge_that_refuses(make_episode: Make, tmp_path: Path) -> None:
    strategy, spent = await judge_episodes(tmp_path, run(make_episode), Judge({"a": "1"}))
    assert [strategy.read(episode) for episode in run(make_episode)] == [0.0, 0.0, 0.01, 0.01, -1.0, 0.01, 0.0]
    assert spent["t/1"] == Spent()


async def test_what_was_judged_is_kept(make_episode: Make, tmp_path: Path) -> None:
    judge = Judge({"a": "90", "b": "10", "c": "20"}, fails_after=3)
    with pytest.raises(InfrastructureFault):
        await judge_episodes(tmp_path, run(make_episode), judge, concurrency=1)
    path = tmp_path / "judgements.jsonl"
    path.write_bytes(path.read_bytes() + b'{"judge": "jud')  # a writer that was killed
    judge.fails_after = 10**6
    strategy, spent = await judge_episodes(tmp_path, run(make_episode), judge)
    assert len(judge.prompts) == 5
    again, same = await judge_episodes(tmp_path, run(make_episode), judge)
    assert len(judge.prompts) == 5 and same == spent
    assert [again.read(e) for e in run(make_episode)] == [strategy.read(e) for e in run(make_episode)]
    assert [json.loads(line)["score"] for line in path.read_text().splitlines()] == [0.9, 0.1, 0.2, 0.9, 0.1]
    other = Judge({"a": "0", "b": "0", "c": "0"})
    other.name = "other"
    await judge_episodes(tmp_path, run(make_episode), other)
    assert len(other.prompts) == 5


async def test_damaged_judgements(make_episode: Make, tmp_path: Path) -> None:
    (tmp_path / "judgements.jsonl").write_text('{"judge": "judge"}\n')
    with pytest.raises(ParallelError, match=r"judgements.jsonl, line 1: not a judgement"):
        await judge_episodes(tmp_path, run(make_episode), Judge({}))


@pytest.mark.parametrize(
    ("reply", "score"),
    [("100", 1.0), ("**85**", 0.85), ("so 7.5 %.", 0.075), ("1234", 0.0), ("120", 1.0), ("", 0.0), ("half", 0.0)],
)
async def test_replies(make_episode: Make, tmp_path: Path, reply: str, score: float) -> None:
    episode = run(make_episode)[2]
    strategy, _ = await judge_episodes(tmp_path, [episode], Judge({"a": reply}))
    assert strategy.read(episode) == pytest.approx(score)
