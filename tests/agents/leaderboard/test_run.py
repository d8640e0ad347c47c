from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import EnvSpec, EpisodeStore, Status
from forethought.agents.evaluation import compare_runs
from forethought.agents.leaderboard import (
    AgentCard,
    Result,
    RunError,
    RunFiles,
    Suite,
    compare_results,
    grade_run,
    read_result,
    run_suite,
    verify_run,
)
from forethought.agents.text_model import Prices
from forethought.envs import ToolEnv, background_loop
from forethought.envs.conformance import Script
from forethought.envs.json_schema import first_violation, published_validator
from forethought.sandboxes import InfrastructureFault


def _timeless(result: Result) -> Any:
    data = result.to_dict()
    for entry in data["entries"]:
        del entry["card"]["seconds"]
    return data


def test_a_run_leaves_everything_in_its_folder(clean: Path, suite: Suite) -> None:
    files = RunFiles(clean)
    assert files.suite().sha256 == suite.sha256 and files.agent() == AgentCard(name="agent")
    result = read_result(files)
    raw = json.loads(files.result_path.read_text())
    assert first_violation(published_validator("result", "forethought.agents"), raw) is None
    assert Result.from_dict(raw).to_dict() == raw == grade_run(files).to_dict()  # type: ignore[union-attr]
    cards = {entry.name: entry.card for entry in result.entries}
    assert cards["pointer"].episodes == 24 and set(cards["pointer"].pass_hat) == {1, 2}
    assert cards["echo"].accuracy.value == 0.5
    assert result.accuracy.value == pytest.approx(sum(card.accuracy.value or 0 for card in cards.values()) / 4)
    assert result.accuracy.low is not None and result.accuracy.value is not None
    assert result.accuracy.low < result.accuracy.value
    pointer = result.entries[0]
    assert pointer.horizon is not None and pointer.horizon.levels[0].length >= 2
    assert sum(task.right for task in pointer.tasks) == round(24 * (cards["pointer"].accuracy.value or 0))


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_give_what_the_whole_gives(shards: int, clean: Path, suite: Suite, tmp_path: Path, run_in: Any) -> None:
    folder = run_in(suite, tmp_path, shards=shards)
    assert _timeless(read_result(RunFiles(folder))) == _timeless(read_result(RunFiles(clean)))
    assert verify_run(folder, suite=suite).ok


def test_shards_of_two_machines_are_merged(suite: Suite, clean: Path, tmp_path: Path, agent_for: Any) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        card = AgentCard(name="agent")
        made = background_loop.run(run_suite(suite, agent_for, folder, card=card, shard=number, shards=2))
        assert made is None and grade_run(RunFiles(folder)) is None
    shutil.copytree(tmp_path / "2", tmp_path / "1", dirs_exist_ok=True)
    merged = grade_run(RunFiles(tmp_path / "1"))
    assert merged is not None and _timeless(merged) == _timeless(read_result(RunFiles(clean)))
    assert verify_run(tmp_path / "1", suite=suite).ok


def test_a_folder_belongs_to_one_run(
    run_folder: Path, suite: Suite, build_suite: Any, entries: Any, run_in: Any
) -> None:
    with pytest.raises(RunError, match='holds a run of an agent whose \'name\' is "agent", now it is "other"'):
        run_in(suite, run_folder, name="other")
    with pytest.raises(RunError, match="holds a run of a suite whose 'version' is"):
        run_in(build_suite(entries["echo"], version="2"), run_folder)
    with pytest.raises(RunError, match="holds shards of 1, found shard 1 of 2"):
        run_in(suite, run_folder, shards=2)
    with pytest.raises(RunError, match="expected a shard between 1 and 2, found 3"):
        background_loop.run(run_suite(suite, lambda env: None, run_folder, card=AgentCard(name="a"), shard=3, shards=2))  # type: ignore[arg-type, return-value]


def test_faults_are_made_again_and_counted_apart(
    tmp_path: Path, build_suite: Any, entries: Any, run_in: Any, echo_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, outages = build_suite(entries["echo"]), [12]
    score = echo_class.score

    def failing(self: Any, answer: str | None) -> Any:
        if outages[0]:
            outages[0] -= 1
            raise InfrastructureFault("the judge is gone")
        return score(self, answer)

    monkeypatch.setattr(echo_class, "score", failing)
    folder = run_in(suite, tmp_path)
    card = read_result(RunFiles(folder)).entries[0].card
    assert card.faults == 4 and card.episodes == 0
    told = [str(finding) for finding in verify_run(folder, suite=suite).findings]
    assert sum("ended in a fault and was not made again" in sentence for sentence in told) == 4
    outages[0] = 1
    run_in(suite, tmp_path)
    card = read_result(RunFiles(folder)).entries[0].card
    assert (card.faults, card.episodes, card.retries) == (0, 4, 1)
    report = verify_run(folder, suite=suite)
    assert report.ok and report.faults == 4
    rows = (folder / "entries/echo/shard-1-of-1/episodes.jsonl").read_text()
    assert rows.count(f'"status":"{Status.FAULT}"') == 4


def test_what_the_suite_prescribes_is_set(tmp_path: Path, build_suite: Any, entries: Any, run_in: Any) -> None:
    suite = build_suite(
        {**entries["echo"], "mode": "plan", "budget": {"turns": 1}, "window": {"limit": 5000, "policy": "truncate"}},
        sampling={"max_turn_tokens": 50, "temperature": 0.5},
        seed=9,
    )
    folder = run_in(suite, tmp_path)
    place = folder / "entries/echo/shard-1-of-1"
    said = json.loads((place / "evaluation.json").read_text())
    assert said["sampling"]["max_tokens"] == 50 and said["sampling"]["temperature"] == 0.5
    assert said["window"] == {"limit": 5000, "policy": "truncate"} and said["seed"] == 9
    assert said["env"] == EnvSpec(id=said["env"]["id"], kwargs={"mode": "plan", "budget": {"turns": 1}}).describe(
        suite.entries[0].make()
    )
    for episode in EpisodeStore(place):
        assert episode.stop_reason == "turns" and episode.sampled_tokens() == 50
    assert verify_run(folder, suite=suite).ok


def test_money(tmp_path: Path, build_suite: Any, entries: Any, run_in: Any) -> None:
    priced = AgentCard(name="a", prices=Prices(input=1000, output=1e6), unit="USD")
    folder = run_in(build_suite(entries["ask"]), tmp_path / "a", card=priced)
    entry = read_result(RunFiles(folder)).entries[0]
    costs = []
    for episode in EpisodeStore(folder / "entries/ask/shard-1-of-1"):
        sampled = episode.sampled_tokens()
        costs.append(0.25 + sampled + (episode.usage["context_tokens"] - sampled) * 1e-3)
    assert entry.money.value == pytest.approx(sum(costs) / 2)
    assert read_result(RunFiles(folder)).money == entry.money.value
    # Without prices what sub-models cost is known, and where there are none nothing is.
    folder = run_in(build_suite(entries["ask"], entries["echo"]), tmp_path / "b")
    ask, echo = read_result(RunFiles(folder)).entries
    assert ask.money.value == 0.25 and echo.money.value is None and read_result(RunFiles(folder)).money is None
    assert verify_run(folder).ok


def answers(env: ToolEnv) -> Script:
    yield env.codec.write_turn(plan=["answer"], answer=env.task.answer)


def test_two_runs_are_compared_task_by_task(tmp_path: Path, build_suite: Any, entries: Any, run_in: Any) -> None:
    from forethought.agents import ScriptedAgent

    suite = build_suite(entries["echo"], {**entries["echo"], "name": "echo8", "tasks": 8})
    run_in(suite, tmp_path / "a")
    background_loop.run(run_suite(suite, lambda env: ScriptedAgent(answers), tmp_path / "b", card=AgentCard(name="b")))
    first, second = (read_result(RunFiles(tmp_path / name)) for name in "ab")
    compared = compare_results(first, second)
    assert set(compared) == {"all", "echo", "echo8"}
    place = Path("entries/echo8/shard-1-of-1")
    assert compared["echo8"] == compare_runs(EpisodeStore(tmp_path / "a" / place), EpisodeStore(tmp_path / "b" / place))
    assert compared["echo8"]["accuracy"].difference.value == 0.5
    assert compared["all"]["accuracy"].difference.value == pytest.approx(0.5)
    assert compared["all"]["accuracy"].tasks == 12
    assert compared["all"]["sampled_tokens"].p_value < 0.01
    other = run_in(build_suite(entries["echo"]), tmp_path / "c")
    with pytest.raises(RunError, match="cannot be compared: they answer different suites"):
        compare_results(first, read_result(RunFiles(other)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(schema="forethought/result/2"), "expected schema 'forethought/result/1'"),
        (lambda r: r["entries"][0].update(tasks=[["a", 3, 2, 1.0]]), "a task is not \\["),
        (lambda r: r["entries"][0].update(name="../../x"), "entries.0.name"),
        (lambda r: r["entries"][0]["card"].pop("turns"), "not a result: KeyError"),
        (lambda r: r.pop("accuracy"), "'accuracy' is a required property"),
    ],
)
def test_damaged_results_are_named(run_folder: Path, change: Any, told: str) -> None:
    path = run_folder / "result.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match=f"result.json: .*{told}"):
        read_result(RunFiles(run_folder))
