from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import EnvSpec, Episode, EpisodeStore, ScriptedAgent
from forethought.agents.engine import Engine
from forethought.agents.evaluation import EvaluationError, ReportCard
from forethought.envs.pointer import PointerTasks
from forethought.envs.pointer.scripts import oracle
from forethought.envs.tool_env import ToolEnv
from forethought.sandboxes import InfrastructureFault

PROGRAM = Path(__file__).with_name("slow_evaluation.py")
_PARTS = runpy.run_path(str(PROGRAM), run_name="program")
SPEC, TASKS, _evaluate = _PARTS["SPEC"], _PARTS["TASKS"], _PARTS["run"]


def _without_seconds(card: ReportCard) -> ReportCard:
    return replace(card, seconds=ReportCard().seconds)


async def test_an_evaluation_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    seen: list[str] = []
    card = await _evaluate(tmp_path / "a", on_episode=lambda episode: seen.append(episode.id))
    assert card.episodes == 120 and card.tasks == 40 and set(card.pass_at) == {1, 2}
    assert sorted(seen) == sorted(episode.id for episode in EpisodeStore(tmp_path / "a"))
    run = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert run["attempts"] == 3 and run["seed"] == 7 and run["tasks"]["count"] == 40
    assert run["env"] == {"id": "forethought/Pointer-v0", "version": "1", "kwargs": {"split": "test", "hops": [0, 4]}}
    assert ReportCard.from_dict(json.loads((tmp_path / "a" / "report_card.json").read_text())) == card
    assert _without_seconds(await _evaluate(tmp_path / "b")) == _without_seconds(card)


async def test_the_oracle_is_calibrated_and_thinking_of_any_length_is_not(tmp_path: Path) -> None:
    best = await _evaluate(tmp_path / "oracle", agent=ScriptedAgent(oracle))
    assert best.accuracy.value == 1.0
    assert best.calibration.spearman_difficulty.value == pytest.approx(1.0)
    card = await _evaluate(tmp_path / "any length", oracle=best)
    rho = card.calibration.spearman_difficulty
    assert rho.low is not None and rho.high is not None and rho.low < 0 < rho.high
    assert card.calibration.over_ratio.value is not None and card.calibration.over_ratio.value > 1.05


@pytest.mark.parametrize("finished", [0, 1, 30])
async def test_killed_in_the_middle_it_goes_on_without_losing_or_repeating(tmp_path: Path, finished: int) -> None:
    folder = tmp_path / "run"
    rows = folder / "episodes.jsonl"
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(folder)])
    deadline = time.monotonic() + 60
    while not rows.exists() or rows.read_bytes().count(b"\n") < finished:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = rows.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    kept = {json.loads(line)["id"] for line in whole.splitlines()}
    assert finished <= len(kept) < 120
    assert not (folder / "report_card.json").exists()
    made: list[str] = []
    card = await _evaluate(folder, on_episode=lambda episode: made.append(episode.id))
    assert rows.read_bytes().startswith(whole)
    assert len(made) == len(set(made)) == 120 - len(kept) and not kept & set(made)
    ids = [episode.id for episode in EpisodeStore(folder)]
    assert len(ids) == len(set(ids)) == 120
    assert _without_seconds(card) == _without_seconds(await _evaluate(tmp_path / "undisturbed"))


async def test_a_finished_evaluation_runs_nothing_again(tmp_path: Path) -> None:
    card = await _evaluate(tmp_path)

    def never(episode: Episode) -> None:
        raise AssertionError(episode.id)

    assert await _evaluate(tmp_path, on_episode=never) == card


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"attempts": 4}, "attempts is 3, now it is 4"),
        ({"seed": 8}, "seed is 7, now it is 8"),
        ({"tasks": PointerTasks("test", (0, 4)).head(39)}, "tasks is"),
        ({"spec": EnvSpec(id=SPEC.id, kwargs={**SPEC.kwargs, "mode": "think"})}, "env is"),
        ({"agent": ScriptedAgent(oracle)}, 'agent is "any_length", now it is "oracle"'),
    ],
)
async def test_a_folder_holds_one_evaluation(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    await _evaluate(tmp_path)
    before = (tmp_path / "episodes.jsonl").read_bytes()
    with pytest.raises(EvaluationError, match=found):
        await _evaluate(tmp_path, **changes)
    assert (tmp_path / "episodes.jsonl").read_bytes() == before


async def test_episodes_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text("")
    with pytest.raises(EvaluationError, match="no evaluation made"):
        await _evaluate(tmp_path)


@pytest.mark.parametrize("changes", [{"attempts": 0}, {"tasks": []}])
async def test_nothing_to_evaluate(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        await _evaluate(tmp_path, **changes)


async def test_ids_must_differ(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="two tasks have the id"):
        await _evaluate(tmp_path, tasks=[TASKS[0], TASKS[0]])


class _Unreliable(ScriptedAgent):
    """Its infrastructure is down for every other task until it is mended."""

    def __init__(self) -> None:
        super().__init__(oracle)
        self.down = True

    def engine_for(self, env: ToolEnv) -> Engine:
        if self.down and int(env.task.id.rsplit("-", 1)[1]) % 2:
            raise InfrastructureFault("server gone")
        return super().engine_for(env)


async def test_faults_are_counted_and_tried_again(tmp_path: Path) -> None:
    agent = _Unreliable()
    card = await _evaluate(tmp_path, agent=agent, attempts=1)
    assert (card.faults, card.episodes, card.accuracy.value) == (20, 20, 1.0)
    agent.down = False
    card = await _evaluate(tmp_path, agent=agent, attempts=1)
    assert (card.faults, card.episodes) == (0, 40)


async def test_an_error_in_the_middle_keeps_what_was_finished(tmp_path: Path) -> None:
    def broken(env: ToolEnv) -> Generator[str, str, None]:
        if env.task.id == TASKS[20].id:
            raise RuntimeError("a bug in the script")
        yield from oracle(env)

    with pytest.raises(RuntimeError, match="a bug in the script"):
        await _evaluate(tmp_path, agent=ScriptedAgent(broken), concurrency=1, attempts=1)
    assert 1 <= len(list(EpisodeStore(tmp_path))) <= 20
