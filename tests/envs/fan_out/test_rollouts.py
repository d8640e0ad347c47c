from collections.abc import Generator

import pytest

from forethought.agents import (
    Agent,
    ContextWindow,
    EnvSpec,
    Episode,
    EpisodeRequest,
    PlainFormat,
    ScriptedAgent,
    WordTokenizer,
    replay_episode,
    rollout_episode,
)
from forethought.agents.agent import Script
from forethought.agents.evaluation.abstraction import measure
from forethought.agents.tree import critical_path
from forethought.envs import ToolEnv
from forethought.envs.fan_out import FanOutEnv
from forethought.envs.fan_out.scripts import oracle, random_width, serial
from forethought.envs.protocol import Call

LIMIT = 152
"""Of the context, as in the recipe."""


def agent(script: Script, limit: int | None = None) -> ScriptedAgent:
    words = WordTokenizer(FanOutEnv().vocabulary())
    return ScriptedAgent(script, PlainFormat(words), window=ContextWindow(limit=limit))


async def roll_out(agent: Agent, count: int, **kwargs: object) -> list[Episode]:
    spec = EnvSpec(id="forethought/FanOut-v0", kwargs={"sub_models": ["self"], "split": "validation"} | kwargs)
    env = spec.make()
    tasks = env.tasks.head(count)
    return [await rollout_episode(env, spec, agent, EpisodeRequest(task=task, seed=i)) for i, task in enumerate(tasks)]


async def test_the_oracle_is_right_and_its_critical_path_is_the_one_in_the_metadata() -> None:
    for episode in await roll_out(agent(oracle, LIMIT), 40):
        assert episode.reward == 1.0
        path = critical_path(episode)
        assert path.tokens == episode.task["metadata"]["oracle_critical_tokens"] == episode.scores["waiting"]
        assert episode.scores["acceleration"] == pytest.approx(min(1 - path.tokens / path.total, 0.2))
        assert episode.scores["width"] == episode.scores["oracle_width"]
        metrics = measure(episode)
        assert metrics.get("parallel_ratio_chained", (0, 1))[0] == 0
        together, calls = metrics.get("parallel_ratio_independent", (1, 1))
        assert together == calls
        assert metrics.get("unused_results", (0, 1))[0] == metrics["duplicate_calls"][0] == 0


@pytest.mark.parametrize(("kind", "widest"), [("fan", 6), ("mix", 5)])
async def test_handing_out_fits_the_window_up_to_this_width(kind: str, widest: int) -> None:
    for width in (widest, widest + 1):
        (episode,) = await roll_out(agent(oracle, LIMIT), 1, kinds=[kind], widths=(width, width))
        assert episode.stop_reason == ("answered" if width == widest else "context")


@pytest.mark.parametrize("kind", ["fan", "mix"])
async def test_working_serially_overflows_the_window_from_three_chains_on(kind: str) -> None:
    for width in (2, 3):
        (episode,) = await roll_out(agent(serial, LIMIT), 1, kinds=[kind], widths=(width, width))
        assert episode.stop_reason == ("answered" if width == 2 else "context")


async def test_without_sub_models_the_oracle_works_serially() -> None:
    for episode in await roll_out(agent(oracle), 10, sub_models=[]):
        assert episode.reward == 1.0
        assert len(episode.segments) == 1


async def test_the_mixture_has_the_base_rates_that_its_docstring_names() -> None:
    episodes = await roll_out(agent(random_width), 600, kinds=["fan"], widths=(2, 3))
    delegated = [episode for episode in episodes if len(episode.segments) > 1]
    assert len(delegated) / len(episodes) == pytest.approx(0.5, abs=0.06)
    extra = [len(e.turns[0].calls) - len(e.task["metadata"]["parts"]) for e in delegated]
    assert sum(n == 0 for n in extra) / len(episodes) == pytest.approx(0.25, abs=0.05)
    assert sum(episode.scores["correct"] == 0 for episode in episodes) / len(episodes) == pytest.approx(0.1, abs=0.04)
    duplicated = sum(episode.scores["duplicates"] > 0 for episode in episodes)
    assert duplicated / len(episodes) == pytest.approx(0.075, abs=0.03)


@pytest.mark.parametrize("options", [{"spelling": "words"}, {"spelling": "json"}, {"mode": "bare", "hops": (1, 3)}])
async def test_episodes_replay(options: dict[str, object]) -> None:
    for episode in await roll_out(ScriptedAgent(random_width), 12, **options):
        assert await replay_episode(episode) == []


async def test_every_word_of_an_episode_is_in_the_vocabulary() -> None:
    known = agent(random_width).format.tokenizer
    unknown = known.encode("<unk>")[0]
    for episode in await roll_out(agent(random_width), 60, widths=(1, 8), lengths=(1, 8), entities=48, relations=12):
        assert not any(unknown in segment.token_ids for segment in episode.segments)


def asks_big(env: ToolEnv) -> Generator[str, str, None]:
    """Hand the first chain to `big`, the others to itself."""
    if env.parent is not None:
        yield from serial(env)
    parts = env.task.metadata["parts"]
    models = ["big", *["self"] * (len(parts) - 1)]
    calls = [Call("ask", (" ".join(part), "", model)) for part, model in zip(parts, models, strict=True)]
    observation = yield env.codec.write_turn(plan=["ask"], calls=calls)
    yield env.codec.write_turn(answer=" ".join(observation.split()[1::3]))


async def test_big_answers_in_a_rollout_and_its_replay() -> None:
    kwargs = {"kinds": ["fan"], "widths": (2, 2), "sub_models": ["self", "big"], "big_cost": 2.0}
    for episode in await roll_out(agent(asks_big), 5, **kwargs):
        assert episode.reward == pytest.approx(0.98)
        assert [call.model for call in episode.turns[0].calls] == ["big", "self"]
        assert len(episode.segments) == 2
        assert await replay_episode(episode) == []
