"""The contract of `ToolEnv` as tests that the author of an environment inherits.

    class TestMyEnv(EnvConformance):
        def make(self, **kwargs: Any) -> ToolEnv:
            return MyEnv(**kwargs)

        def solve(self, env: ToolEnv) -> Script:
            yield env.codec.write_turn(plan=["answer"], answer=env.task.answer)

Collected by pytest, which this module does not import. Each test makes its own environments.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import warnings
from abc import abstractmethod
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from gymnasium.envs.registration import EnvSpec, make_vec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from .json_schema import first_violation, published_validator
from .protocol import Call
from .tasks import Task
from .tool_env import ToolEnv

Script = Generator[str, str, None]
"""Yields turns and is sent the observation that answers each."""

INFO_KEYS = {"task_id", "scores", "usage", "error", "stop_reason"}
GARBAGE = (
    "",
    " \n\t ",
    "hello",
    "<",
    "<plan>",
    "</plan>",
    "<plan></plan><answer></answer>",
    "<plan>\n1. x\n</plan>",
    "<plan>1. x</plan><answer>",
    "<plan>1. x</plan><answer>42</answer> and more",
    "<plan>2. x</plan><answer>42</answer>",
    "<plan>1. x (after 1)</plan><answer>42</answer>",
    "<plan>1. x</plan><tool_call></tool_call>",
    '<plan>1. x</plan><tool_call>{"name": "no such tool", "arguments": {}}</tool_call>',
    '<plan>1. x</plan><tool_call>{"name": 1, "arguments": []}</tool_call>',
    '<plan>1. x</plan><tool_call>{"name": "a", "arguments": {"n": NaN, "m": 1e999}}</tool_call>',
    "<plan>1. x</plan><tool_call>" + "[" * 100_000 + "</tool_call>",
    "<plan>1. x</plan><tool_call>" + '{"a":' * 500 + "1" + "}" * 500 + "</tool_call>",
    "<plan>1. x</plan><tool_call>no_such_tool " + "9" * 5000 + " | | |</tool_call>",
    "<plan>1. x</plan><tool_call>\x00 \ud800</tool_call><tool_call>a b c | d</tool_call>",
    "<plan>1. x</plan><summary>what I know</summary>",
    "<plan>1. naïve 中文 🎈</plan><answer>naïve 中文 🎈\x00\ud800\u202e</answer>",
    "<think>" * 1000,
    "\x00\ud800\udfff\uffff",
    "x" * 100_000,
)
"""Turns that no environment may fail on."""


class Played(NamedTuple):
    """One step of an episode that was played."""

    turn: str | None
    """None for the reset."""
    observation: str
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class EnvConformance:
    """Inherit it in a class whose name begins with `Test`, and give `make` and `solve`."""

    seeds: Iterable[int] = range(4)
    """Seeds of the episodes that are played; each draws a task."""
    solved_reward: float = 1.0
    """Reward of the solution."""

    @abstractmethod
    def make(self, **kwargs: Any) -> ToolEnv:
        """A new environment; `kwargs` are those of `ToolEnv` and come before defaults of your own."""
        raise NotImplementedError

    @abstractmethod
    def solve(self, env: ToolEnv) -> Script:
        """The turns that solve the task of `env`, which was just reset."""
        raise NotImplementedError

    def naive_answers(self, env: ToolEnv) -> list[str]:
        """Answers that must not earn the reward of the solution."""
        return ["", "I do not know", env.task.prompt]

    def test_passes_the_checker_of_gymnasium(self) -> None:
        env = self.make(render_mode="ansi")
        env.spec = self._spec()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env)

    def test_sync_vector_takes_any_unicode(self) -> None:
        self._check_vector("sync", {})

    def test_async_vector_takes_any_unicode(self) -> None:
        self._check_vector("async", {"shared_memory": False})

    def test_same_turns_give_the_same_episode(self) -> None:
        for seed in self.seeds:
            recorded = self._play(self.make(), seed)
            turns = [step.turn for step in recorded if step.turn is not None]
            random_state, numpy_state = random.getstate(), repr(np.random.get_state())
            env, other = self.make(), self.make()
            repeated = [_reset(env, seed)]
            for turn in turns:
                other.reset(seed=seed + 1000)
                other.np_random.random()
                other.step(turn)
                repeated.append(_step(env, turn))
            _assert_same(recorded, repeated, "two instances with the same seed and turns")
            assert random.getstate() == random_state, "the global generator of random was used"
            assert repr(np.random.get_state()) == numpy_state, "the global generator of numpy was used"

    def test_an_instance_is_as_good_as_new_after_reset(self) -> None:
        env = self.make()
        for seed in self.seeds:
            used = self._play(env, seed)
            _assert_same(self._play(self.make(), seed), used, "a new instance and one that was used before")

    def test_replays_from_its_record(self) -> None:
        for seed in self.seeds:
            env = self.make()
            recorded = self._play(env, seed)
            row = json.loads(json.dumps(env.task.to_row()))
            again = self.make()
            replayed = [_reset(again, seed, {"task": row})]
            replayed += [_step(again, step.turn) for step in recorded if step.turn is not None]
            _assert_same(recorded, replayed, "the episode and its replay from a task row")

    def test_garbage_is_answered_by_an_observation(self) -> None:
        env = self.make()
        first = next(iter(self.seeds))
        env.reset(seed=first)
        solution = next(self.solve(env))
        for turn in (*GARBAGE, *_mutations(solution)):
            env.reset(seed=first)
            step = _step(env, turn)
            if step.info["error"] is not None:
                assert step.observation, f"a format error without an observation: {turn[:80]!r}"
                assert not step.terminated, f"a format error ended the episode: {turn[:80]!r}"

    def test_garbage_never_raises_to_the_end_of_an_episode(self) -> None:
        env = self.make(budget={"turns": 8})
        rng = random.Random(0)
        for seed in self.seeds:
            env.reset(seed=seed)
            for _ in range(8):
                if (step := _step(env, rng.choice(GARBAGE))).terminated or step.truncated:
                    break
            else:
                raise AssertionError("a budget of 8 turns let 8 turns pass without an end")

    def test_the_budget_of_turns_truncates(self) -> None:
        env = self.make(budget={"turns": 2})
        env.reset(seed=0)
        assert not _step(env, "garbage").truncated
        self._assert_truncated(_step(env, "garbage"), "turns")

    def test_the_budget_of_sampled_tokens_truncates(self) -> None:
        env = self.make(budget={"sampled_tokens": 3})
        env.reset(seed=0)
        assert not _step(env, "one two").truncated
        assert env.tokens_left() == 1
        self._assert_truncated(_step(env, "three four"), "sampled_tokens")

    def test_the_budget_of_tool_calls_truncates(self) -> None:
        env = self.make(budget={"tool_calls": 2})
        env.reset(seed=0)
        none: dict[str, Any] | tuple[str, ...] = {} if env.codec.spelling == "json" else ()
        plan = None if env.mode == "bare" else ["try"]
        turn = env.codec.write_turn(plan=plan, calls=[Call("no_such_tool", none)] * 3)
        self._assert_truncated(_step(env, turn), "tool_calls")

    def test_the_budget_of_seconds_truncates(self) -> None:
        env = self.make(budget={"seconds": 10})
        now = 0.0
        env.clock = lambda: now
        env.reset(seed=0)
        assert not _step(env, "garbage").truncated
        now = 11.0
        self._assert_truncated(_step(env, "garbage"), "seconds")

    def test_a_step_without_an_episode_asks_for_reset(self) -> None:
        env = self.make()
        _assert_reset_needed(env)
        self._play(env, 0)
        _assert_reset_needed(env)

    def test_the_solution_earns_its_reward(self) -> None:
        env = self.make()
        for seed in self.seeds:
            last = self._play(env, seed)[-1]
            assert last.terminated, f"seed {seed}: the solution did not end the episode: {last}"
            assert math.isclose(last.reward, self.solved_reward), (
                f"seed {seed}: the solution earned {last.reward}: {last}"
            )
            assert last.info["stop_reason"] == "answered"

    def test_a_naive_answer_does_not_earn_it(self) -> None:
        env = self.make()
        plan = None if env.mode == "bare" else ["answer"]
        for seed in self.seeds:
            env.reset(seed=seed)
            for answer in self.naive_answers(env):
                env.reset(seed=seed)
                step = _step(env, env.codec.write_turn(plan=plan, answer=answer))
                assert step.reward < self.solved_reward, f"seed {seed}: the answer {answer!r} earned {step.reward}"

    def test_tasks_fit_the_published_schema(self) -> None:
        tasks = self.make().tasks
        validator = published_validator("task")
        seen = set()
        for index in range(min(len(tasks), 50)):
            row = json.loads(json.dumps(tasks[index].to_row(), allow_nan=False))
            violation = first_violation(validator, row)
            assert violation is None, f"task {index}: {violation}"
            assert Task.from_row(row).to_row() == row, f"task {index} is not what its row says"
            assert tasks[index] == tasks[index], f"task {index} is another one when asked for twice"
            seen.add(row["id"])
        assert len(seen) == min(len(tasks), 50), "two tasks share an id"

    def test_renders_as_text(self) -> None:
        env = self.make(render_mode="ansi")
        recorded = self._play(env, 0)
        text = env.render()
        assert isinstance(text, str), f"render() gave a {type(text).__name__}"
        for step in recorded:
            assert step.observation in text and (step.turn or "") in text, "the transcript misses a turn or observation"

    def test_works_in_threads(self) -> None:
        seeds = list(self.seeds)
        alone = [self._play(self.make(), seed) for seed in seeds]
        with ThreadPoolExecutor(len(seeds)) as pool:
            together = list(pool.map(lambda seed: self._play(self.make(), seed), seeds))
        for expected, found in zip(alone, together, strict=True):
            _assert_same(expected, found, "an episode in the main thread and one in a thread")

    def test_the_async_step_is_the_same_step(self) -> None:
        for seed in self.seeds:
            recorded = self._play(self.make(), seed)

            async def play(seed: int = seed, recorded: list[Played] = recorded) -> list[Played]:
                env = self.make()
                played = [_reset(env, seed)]
                for turn in (step.turn for step in recorded):
                    if turn is None:
                        continue
                    o = await env.step_async(turn)
                    played.append(Played(turn, o.observation, o.reward, o.terminated, o.truncated, o.info))
                return played

            _assert_same(recorded, asyncio.run(play()), "step and step_async")

    def _play(self, env: ToolEnv, seed: int) -> list[Played]:
        """The episode of the solution."""
        played = [_reset(env, seed)]
        script = self.solve(env)
        turn = next(script)
        for _ in range(1000):
            played.append(_step(env, turn))
            if played[-1].terminated or played[-1].truncated:
                script.close()
                return played
            try:
                turn = script.send(played[-1].observation)
            except StopIteration:
                raise AssertionError(f"seed {seed}: the solution ends before the episode does: {played[-1]}") from None
        raise AssertionError(f"seed {seed}: the episode did not end within 1000 turns")

    def _check_vector(self, mode: str, vector_kwargs: dict[str, Any]) -> None:
        actions = ("naïve 中文 🎈\x00", "\ud800<think>")
        with warnings.catch_warnings():
            # Python 3.12 and later warn of every fork of a process that has threads.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
            envs = make_vec(self._spec(), num_envs=2, vectorization_mode=mode, vector_kwargs=vector_kwargs)
        try:
            observations, _ = envs.reset(seed=5)
            expected = [_reset(env, 5 + i) for i, env in enumerate((self.make(), self.make()))]
            assert list(observations) == [step.observation for step in expected]
            observations, rewards, _, _, _ = envs.step(actions)
            for i, action in enumerate(actions):
                env = self.make()
                env.reset(seed=5 + i)
                step = _step(env, action)
                assert observations[i] == step.observation, f"environment {i} of the vector answers otherwise"
                assert rewards[i] == step.reward
        finally:
            envs.close()

    def _spec(self) -> EnvSpec:
        return EnvSpec(id=f"Conformance{type(self).__name__}-v0", entry_point=self.make)

    def _assert_truncated(self, step: Played, reason: str) -> None:
        assert step.truncated and not step.terminated, f"the budget {reason!r} did not truncate: {step}"
        assert step.info["stop_reason"] == reason, f"stop reason {step.info['stop_reason']!r} in place of {reason!r}"


def _reset(env: ToolEnv, seed: int, options: dict[str, Any] | None = None) -> Played:
    observation, info = env.reset(seed=seed, options=options)
    step = Played(None, observation, 0.0, False, False, info)
    _assert_well_formed(step)
    return step


def _step(env: ToolEnv, turn: str | None) -> Played:
    assert turn is not None
    step = Played(turn, *env.step(turn))
    _assert_well_formed(step)
    return step


def _assert_well_formed(step: Played) -> None:
    observation, info = step.observation, step.info
    assert isinstance(observation, str), f"the observation is a {type(observation).__name__}"
    observation.encode()  # a lone surrogate could not be tokenised
    assert type(step.reward) is float and math.isfinite(step.reward), f"the reward is {step.reward!r}"
    assert type(step.terminated) is bool and type(step.truncated) is bool
    assert not (step.terminated and step.truncated), "an episode ends in one way"
    assert info.keys() >= INFO_KEYS, f"info has no {', '.join(sorted(INFO_KEYS - info.keys()))}"
    ended = step.terminated or step.truncated
    assert (info["stop_reason"] is not None) == ended, f"stop reason {info['stop_reason']!r}, ended: {ended}"
    assert bool(info["scores"]) == ended, "scores come with the last step, and only then"
    assert all(type(v) is float and math.isfinite(v) for v in info["scores"].values()), f"scores {info['scores']}"
    json.dumps(info, allow_nan=False)


def _assert_same(expected: list[Played], found: list[Played], what: str) -> None:
    assert len(expected) == len(found), f"{what} differ in length: {len(expected)} and {len(found)} steps"
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert a == b, f"{what} differ in step {number}:\n{a}\n{b}"


def _assert_reset_needed(env: ToolEnv) -> None:
    try:
        env.step("<answer>42</answer>")
    except ResetNeeded:
        return
    raise AssertionError("step() without an episode did not raise gymnasium.error.ResetNeeded")


def _mutations(turn: str) -> Iterable[str]:
    """Broken variants of a well-formed turn."""
    rng = random.Random(0)
    for _ in range(50):
        a, b = sorted((rng.randrange(len(turn) + 1), rng.randrange(len(turn) + 1)))
        yield turn[:a]
        yield turn[:a] + turn[b:]
        yield turn[:b] + turn[a:]
        yield turn[:a] + rng.choice('<>/{}"\x00|. 1\ud800é') + turn[a:]
