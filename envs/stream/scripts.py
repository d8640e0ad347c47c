"""Scripted policies of the Stream family: the oracle, mixtures that traces are made from, and one without memory.

What they reach on 1,000 training tasks (200 of 32 chunks), four facts a chunk, in a window of 100 tokens of which 21
are kept for a summary and 13 for a turn (examples/recipes/stream.toml):

| accuracy (fact recall) | 3 chunks | 6 chunks | 32 chunks |
|---|---|---|---|
| oracle | 1 (1) | 1 (1) | 1 (1) |
| mostly_forgetful | .61 (.74) | .55 (.69) | .30 (.31) |
| forgetful | .49 (.68) | .38 (.58) | .13 (.19) |
| no_memory | .05 (.15) | .13 (.11) | .08 (.02) |

With 6 chunks `forgetful` has a share of .06 stale facts, `mostly_forgetful` .04. `no_memory` is above guessing
one of 24 entities (.04): while there is little to carry along, the window holds two chunks of a query of one hop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

from ..protocol import Call, Mode, PlanStep
from ..tool_env import ToolEnv
from .env import END
from .facts import Fact, Slot, newest, read_facts, write_facts

Script = Generator[str, str, None]
Memory = dict[Slot, str]
Compress = Callable[[Memory, list[Fact]], Memory]
"""What to keep of the memory and of the facts that came after it was written."""

BUDGET = 6
"""Most facts of a summary."""
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def oracle(env: ToolEnv) -> Script:
    """Keep the facts that have a relation of the query, in their place the new value of those that are overwritten."""
    yield from _play(env, _keep_what_can_matter(env))


def forgetful(env: ToolEnv) -> Script:
    """Know how to read, summarise and look up, but not what to keep.

    A fact that can matter (it has a relation of the query) is kept with probability .65, any other with .2; of a fact
    in memory that is overwritten, the old value stays with probability .5. When there are more than `BUDGET` facts,
    those to drop are drawn at random. What is missing for the answer is guessed.
    """
    yield from _play(env, _keep_at_random(env))


def mostly_forgetful(env: ToolEnv) -> Script:
    """As `forgetful`, but in a quarter of the tasks it keeps what can matter, as the oracle does.

    So what is worth keeping is among the things that a model trained on it may try, and may learn to prefer.
    """
    informed = env.np_random.random() < 0.25
    yield from _play(env, _keep_what_can_matter(env) if informed else _keep_at_random(env))


def no_memory(env: ToolEnv) -> Script:
    """Write empty summaries: what is left is the last chunk and guessing."""
    yield from _play(env, lambda memory, recent: {})


def _keep_what_can_matter(env: ToolEnv) -> Compress:
    relations = _relations(env)

    def compress(memory: Memory, recent: list[Fact]) -> Memory:
        return memory | newest(fact for fact in recent if fact[1] in relations)

    return compress


def _keep_at_random(env: ToolEnv) -> Compress:
    relations, rng = _relations(env), env.np_random

    def compress(memory: Memory, recent: list[Fact]) -> Memory:
        kept = dict(memory)
        for slot, value in newest(recent).items():
            if rng.random() < (0.5 if slot in memory else 0.65 if slot[1] in relations else 0.2):
                kept[slot] = value
        while len(kept) > BUDGET:
            del kept[list(kept)[int(rng.integers(len(kept)))]]
        return kept

    return compress


def _play(env: ToolEnv, compress: Compress) -> Script:
    """Read until the stream has ended, summarise when asked to, answer."""
    memory: Memory = {}
    recent: list[Fact] = []
    call = [Call("read", {} if env.codec.spelling == "json" else ())]
    text = yield env.codec.write_turn(plan=None if env.mode is Mode.BARE else _plan(env), calls=call)
    while True:
        if text.endswith(env.codec.summary_request):
            memory, recent = compress(memory, recent), []
            facts = [(*slot, value) for slot, value in memory.items()]
            text = yield env.codec.write_turn(summary=write_facts(facts))
        read = [chunk.strip() for chunk in _RESPONSE.findall(text)]
        recent += read_facts(" ".join(read))
        if END in read or any("query" in chunk for chunk in read):
            looked_up = _look_up(env, memory | newest(recent))
            think = None if env.mode is Mode.BARE else " ".join(looked_up)
            text = yield env.codec.write_turn(think=think, answer=looked_up[-1])
        else:
            text = yield env.codec.write_turn(calls=call)


def _plan(env: ToolEnv) -> list[PlanStep]:
    """The look-ups of each query that is possible: a step each, after the one whose result it needs."""
    steps: list[PlanStep] = []
    for start, first, *others in env.task.metadata["queries"]:
        steps.append(PlanStep(len(steps) + 1, f"{start} {first}"))
        for relation in others:
            steps.append(PlanStep(len(steps) + 1, relation, (len(steps),)))
    return steps


def _look_up(env: ToolEnv, known: Memory) -> list[str]:
    """The query's entity, a relation, the entity that it leads to, and so on; where a fact is missing, any entity."""
    start, *relations = env.task.metadata["query"]
    words = [start]
    for relation in relations:
        value = known.get((words[-1], relation))
        if value is None:
            entities = [word for word in env.vocabulary() if word.startswith("E")]
            value = entities[int(env.np_random.integers(len(entities)))]
        words += [relation, value]
    return words


def _relations(env: ToolEnv) -> set[str]:
    return {relation for query in env.task.metadata["queries"] for relation in query[1:]}
