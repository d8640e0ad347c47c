"""How full the torch engine's batch is while episodes wait for their sub-tasks.

64 episodes of 8 sub-tasks each are in flight: every episode hands out its sub-tasks in one turn, each of these takes
some turns with a tool call, of random lengths. At every decode step the rows in flight are compared with what could
run: all contexts that do not wait for a sub-task. A script says the turns' texts; their cost is the engine's, which
samples as many tokens from a model with random weights.

    python examples/benchmarks/tree_batching.py
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from forethought.agents import (
    ByteTokenizer,
    EnvSpec,
    EpisodeRequest,
    PlainFormat,
    Sample,
    SamplingParams,
    ScriptedAgent,
    collect_rollouts,
)
from forethought.agents.engines.torch_engine import TorchEngine
from forethought.envs import Call, Task, ToolEnv, tool


class TreeEnv(ToolEnv):
    """Hands out sub-tasks; the tool answers at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__([Task(id=f"tree{i}", prompt="go") for i in range(1000)], mode="bare", **options)

    @tool(timeout=None)
    def look(self) -> str:
        """Look."""
        return "seen"

    def score(self, answer: str | None) -> dict[str, float]:
        """Everything is right."""
        return {"correct": 1.0}


def script(env: ToolEnv) -> Any:
    """Hand out the sub-tasks; a sub-task looks a few times and answers."""
    lengths = random.Random(f"{env.task.id}")
    if env.parent is None:
        calls = [Call("ask", (f"sub {i}",)) for i in range(CHILDREN)]
        yield env.codec.write_turn(calls=calls)
    else:
        for _ in range(lengths.randint(1, 4)):
            yield env.codec.write_turn(calls=[Call("look", ())])
    yield env.codec.write_turn(answer="x" * lengths.randint(1, 60))


@dataclass
class Load:
    """Which contexts could run."""

    alive: int = 0
    waiting: dict[int, int] = field(default_factory=dict)
    """Sub-tasks in progress of each environment that waits for them."""
    rows: int = 0
    runnable: int = 0
    steps: int = 0


class ScriptOnEngine:
    """One context: the engine samples as many tokens as the script's turn has, the script says which."""

    def __init__(self, inner: Any, engine: TorchEngine, env: ToolEnv, load: Load) -> None:
        self.context_limit = engine.context_limit
        self._inner, self._engine, self._env, self._load = inner, engine, env, load
        load.alive += 1
        if env.parent is not None:
            load.waiting[id(env.parent)] = load.waiting.get(id(env.parent), 0) + 1

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """What the script says, once the engine has sampled as much."""
        said: Sample = await self._inner.sample(prompt_ids, params, session=session)
        cost = replace(params, max_tokens=len(said.token_ids), stop_token_ids=())
        await self._engine.sample(prompt_ids, cost, session=session)
        return said

    def release(self, session: str) -> None:
        """The context has ended."""
        self._engine.release(session)
        self._load.alive -= 1
        if self._env.parent is not None:
            left = self._load.waiting[id(self._env.parent)] - 1
            self._load.waiting[id(self._env.parent)] = left
            if not left:
                del self._load.waiting[id(self._env.parent)]

    async def close(self) -> None:
        """Nothing is kept."""


class Agent(ScriptedAgent):
    """The script on the shared engine."""

    def __init__(self, engine: TorchEngine, load: Load) -> None:
        super().__init__(script, PlainFormat(ByteTokenizer()))
        self._engine, self._load = engine, load

    def engine_for(self, env: ToolEnv) -> Any:
        """A context of its own."""
        return ScriptOnEngine(super().engine_for(env), self._engine, env, self._load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--slots", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=512, **size))
    engine = TorchEngine(model, max_slots=options.slots, context_limit=512)
    load = Load()
    step = engine._step

    def watched_step() -> None:
        step()
        load.rows += len(engine._rows)
        load.runnable += min(options.slots, load.alive - len(load.waiting))
        load.steps += 1

    engine._step = watched_step  # type: ignore[method-assign]
    gymnasium.register("benchmarks/Tree-v0", TreeEnv)
    spec = EnvSpec(id="benchmarks/Tree-v0", kwargs={"sub_models": ["self"], "spelling": "words"})
    tasks = spec.make().tasks
    requests = [EpisodeRequest(task=tasks[i]) for i in range(options.episodes)]
    started = time.perf_counter()
    episodes = asyncio.run(collect_rollouts(requests, spec, Agent(engine, load), concurrency=options.in_flight))
    seconds = time.perf_counter() - started
    assert all(len(episode.segments) == CHILDREN + 1 for episode in episodes)
    stats = engine.stats
    print(f"{options.episodes} episodes of {CHILDREN} sub-tasks, {options.in_flight} in flight, {options.slots} slots")
    print(f"mean batch {load.rows / load.steps:.1f} rows of {load.runnable / load.steps:.1f} that could run: "
          f"{load.rows / load.runnable:.1%}")  # fmt: skip
    prompt = stats.prefilled_tokens + stats.copied_tokens + stats.reused_tokens
    print(f"prompt tokens: {stats.prefilled_tokens / prompt:.1%} read, {stats.copied_tokens / prompt:.1%} copied, "
          f"{stats.reused_tokens / prompt:.1%} kept from the turn before")  # fmt: skip
    print(f"{seconds:.1f} s, of which {stats.seconds:.1f} s in engine steps")


CHILDREN = 8

if __name__ == "__main__":
    main()
