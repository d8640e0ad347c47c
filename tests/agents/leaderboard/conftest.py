"""A small run of every kind of environment, and a forger who leaves no contradiction that he knows of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from forethought.agents import EpisodeStore, EpisodeWriter, ScriptedAgent
from forethought.agents.context_format import PlainFormat
from forethought.agents.evaluation import make_report_card
from forethought.agents.leaderboard import AgentCard, RunFiles, Suite, grade_run, run_suite
from forethought.agents.text_model import TextAnswer
from forethought.agents.tokenizers import WordTokenizer
from forethought.envs import Task, ToolEnv, background_loop, tool
from forethought.envs.conformance import Script
from forethought.envs.pointer.scripts import uninformed_plan
from forethought.envs.protocol import Call, Spelling

POINTER: dict[str, Any] = {
    "name": "pointer",
    "env": "forethought.envs:forethought/Pointer-v0",
    "env_version": "1",
    "split": "test",
    "mode": "plan",
    "tasks": 12,
    "attempts": 2,
    "kwargs": {"hops": [2, 14]},
    "budget": {"turns": 2},
}
ECHO: dict[str, Any] = {"name": "echo", "env": "tests/LeaderboardEcho-v0", "env_version": "1", "tasks": 4}
ASK: dict[str, Any] = {**ECHO, "name": "ask", "tasks": 2, "kwargs": {"sub_models": ["self", "big"]}}
LONG: dict[str, Any] = {**ECHO, "name": "long", "window": {"limit": 4000, "policy": "learned"}, "tasks": 2}


class LeaderboardEcho(ToolEnv):
    """Echo a word, then answer it."""

    version = "1"

    def __init__(self, **options: Any) -> None:
        tasks = [Task(id=f"e{i}", prompt=f"echo word{i}", answer=f"word{i}", difficulty=i) for i in range(8)]
        super().__init__(tasks, **options)

    @tool(timeout=None)
    def echo(self, text: str) -> str:
        """Give the text back."""
        return text

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer), "answered": float(answer is not None)}


class Big:
    """A frozen sub-model."""

    name = "big"

    async def answer(self, prompt: str) -> TextAnswer:
        return TextAnswer(text="BIG", input_tokens=3, output_tokens=2, cost=0.25)


def work(env: ToolEnv) -> Script:
    """Echo, ask whoever there is, summarise where one may, answer the odd tasks rightly."""
    if env.parent is not None:
        yield env.codec.write_turn(plan=["answer"], answer="small")
        return
    plan = ["echo", "answer"]
    yield env.codec.write_turn(plan=plan, calls=[Call("echo", {"text": "wört"}), Call("nothing", {})])
    if env.summaries:
        yield env.codec.write_turn(summary="echoed it")
    if env.sub_models:
        asks = [Call("ask", {"task": "what?"}), Call("ask", {"task": "and?", "model": "big"})]
        yield env.codec.write_turn(calls=asks)
    yield "garbage"
    number = int(env.task.id[1:])
    yield env.codec.write_turn(answer=env.task.answer if number % 2 else "no")


def make_agent(env: ToolEnv) -> ScriptedAgent:
    if env.codec.spelling is Spelling.WORDS:
        return ScriptedAgent(uninformed_plan, PlainFormat(WordTokenizer(env.vocabulary())))
    agent = ScriptedAgent(work, sub_models={"big": Big()})
    agent.name = uninformed_plan.__name__
    return agent


def make_suite(*entries: dict[str, Any], **changes: Any) -> Suite:
    data = {"schema": "forethought/suite/1", "name": "s", "version": "1", "sampling": {"max_turn_tokens": 400}}
    return Suite.from_dict({**data, "entries": list(entries), **changes})


def run(suite: Suite, folder: Path, *, name: str = "agent", shards: int = 1, **options: Any) -> Path:
    card = options.pop("card", AgentCard(name=name))
    for shard in range(1, shards + 1):
        background_loop.run(run_suite(suite, make_agent, folder, card=card, shard=shard, shards=shards, **options))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register("tests/LeaderboardEcho-v0", LeaderboardEcho)
    yield
    del gymnasium.registry["tests/LeaderboardEcho-v0"]


@pytest.fixture(scope="session")
def echo_class() -> type[LeaderboardEcho]:
    return LeaderboardEcho


@pytest.fixture(scope="session")
def suite() -> Suite:
    return make_suite(POINTER, ECHO, ASK, LONG)


@pytest.fixture(scope="session")
def clean(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(suite, tmp_path_factory.mktemp("clean"))


@pytest.fixture
def run_folder(clean: Path, tmp_path: Path) -> Path:
    """A copy of a whole run to do things to."""
    return Path(shutil.copytree(clean, tmp_path / "run"))


@pytest.fixture(scope="session")
def build_suite() -> Callable[..., Suite]:
    return make_suite


@pytest.fixture(scope="session")
def entries() -> dict[str, dict[str, Any]]:
    return {"pointer": POINTER, "echo": ECHO, "ask": ASK, "long": LONG}


@pytest.fixture(scope="session")
def run_in() -> Callable[..., Path]:
    return run


@pytest.fixture(scope="session")
def agent_for() -> Callable[[ToolEnv], ScriptedAgent]:
    return make_agent


@pytest.fixture(scope="session")
def forge() -> Callable[..., None]:
    """Rewrites the episodes of an entry and makes every number of the run fit what is there now."""

    def forge(folder: Path, entry: str, change: Callable[[list[Any]], list[Any]], shard: str = "shard-1-of-1") -> None:
        place = folder / "entries" / entry / shard
        episodes = change(list(EpisodeStore(place)))
        for path in (place / "episodes.jsonl", *(place / "tokens").iterdir()):
            path.unlink()
        with EpisodeWriter(place) as writer:
            for episode in episodes:
                writer.append(episode)
        card = make_report_card(EpisodeStore(place))
        (place / "report_card.json").write_text(json.dumps(card.to_dict()))
        grade_run(RunFiles(folder))

    return forge
