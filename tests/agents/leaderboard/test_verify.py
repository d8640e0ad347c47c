"""Forged runs: each forgery is found, although the forger has made every number of the run fit it."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import ChatFormat, Episode, ScriptedAgent, Status
from forethought.agents.leaderboard import AgentCard, Suite, run_suite, verify_run
from forethought.envs import ToolEnv, background_loop

Forge = Callable[..., None]


def findings(folder: Path, suite: Suite | None) -> list[str]:
    return [str(finding) for finding in verify_run(folder, suite=suite).findings]


def found(folder: Path, suite: Suite | None, *patterns: str) -> None:
    told = findings(folder, suite)
    for pattern in patterns:
        assert any(re.search(pattern, sentence) for sentence in told), (pattern, told)


def each(change: Callable[[Episode], object]) -> Callable[[list[Episode]], list[Episode]]:
    def changed(episodes: list[Episode]) -> list[Episode]:
        for episode in episodes:
            change(episode)
        return episodes

    return changed


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def make_right(episode: Episode) -> None:
    episode.scores["correct"], episode.reward = 1.0, 1.0


def test_an_honest_run_is_verified(clean: Path, suite: Suite) -> None:
    report = verify_run(clean, suite=suite)
    assert [str(finding) for finding in report.findings] == []
    # Episodes with sub-calls are replayed as texts: in which order those were sampled is not recorded.
    assert (report.episodes, report.by_token) == (24 + 4 + 2 + 2, 24 + 4 + 2)
    assert report.ok and report.agent == "agent" and suite.sha256[:12] in report.suite
    assert verify_run(clean).ok


def test_an_edited_answer(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episodes: list[Episode]) -> list[Episode]:
        wrong = next(e for e in episodes if e.reward == 0)
        wrong.answer = wrong.task["answer"]
        make_right(wrong)
        return episodes

    forge(run_folder, "pointer", change)
    found(run_folder, suite, r"pointer: episode '.*': scores: recorded .*1\.0.* replayed", "answer: recorded")


def test_an_answer_edited_in_the_text_too(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        if episode.reward == 0:
            episode.turns[-1].text = episode.turns[-1].text.replace("\nno\n", f"\n{episode.task['answer']}\n")
            episode.answer = episode.task["answer"]
            make_right(episode)

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "echo: episode 'e0/0': turn 2: the text is not what its tokens say")


def test_an_edited_score(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "echo", each(make_right))
    found(run_folder, suite, "echo: episode 'e0/0': scores: recorded", "echo: episode 'e2/0': reward: recorded 1.0")


def test_dropped_failures(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "echo", lambda episodes: [e for e in episodes if e.reward == 1])
    assert findings(run_folder, suite) == ["echo: episode 'e0/0' is missing", "echo: episode 'e2/0' is missing"]


def test_failures_called_faults(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        if episode.reward == 0:
            episode.status, episode.fault = Status.FAULT, "the server was gone"

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "echo: episode 'e0/0' ended in a fault and was not made again")


def test_a_task_repeated_in_place_of_a_failure(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episodes: list[Episode]) -> list[Episode]:
        return [e if e.reward == 1 else copy.deepcopy(next(o for o in episodes if o.reward == 1)) for e in episodes]

    forge(run_folder, "echo", change)
    found(run_folder, suite, "episode 'e1/0' is there twice: every attempt counts once", "episode 'e0/0' is missing")


def test_a_right_task_relabelled_as_a_failed_one(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episodes: list[Episode]) -> list[Episode]:
        right, wrong = next(e for e in episodes if e.reward), next(e for e in episodes if not e.reward)
        forged = copy.deepcopy(right)
        forged.id, forged.task_id, forged.attempt, forged.seed = wrong.id, wrong.task_id, wrong.attempt, wrong.seed
        return [forged if e is wrong else e for e in episodes]

    forge(run_folder, "pointer", change)
    found(run_folder, suite, "its task is not as the suite has it: id is ")

    def hide(episodes: list[Episode]) -> list[Episode]:
        tasks = {e.task_id: e.task for e in episodes if e.task["id"] == e.task_id}
        for episode in episodes:
            episode.task = tasks.get(episode.task_id, episode.task)
        return episodes

    forge(run_folder, "pointer", hide)
    found(run_folder, suite, r"pointer: episode '.*': (scores: recorded|turn 0: the context)")


def test_exceeded_budgets(
    run_folder: Path, suite: Suite, forge: Forge, run_in: Any, build_suite: Any, entries: Any
) -> None:
    # Made with more turns and longer turns than the suite allows, then put under the suite's name.
    generous = build_suite({**entries["echo"], "budget": {"turns": 5}}, version="2", sampling={"max_turn_tokens": 1000})
    other = run_in(generous, run_folder.parent / "generous")
    place = Path("entries/echo/shard-1-of-1")
    strict = build_suite({**entries["echo"], "budget": {"turns": 2}}, sampling={"max_turn_tokens": 30})
    (other / "suite.json").write_text(json.dumps(strict.to_dict()))

    def relabel(data: dict[str, Any]) -> None:
        data["env"]["kwargs"], data["sampling"]["max_tokens"] = {"budget": {"turns": 2}}, 30

    edit_json(other / place / "evaluation.json", relabel)
    forge(other, "echo", each(lambda episode: episode.env.update(kwargs={"budget": {"turns": 2}})))
    found(
        other, strict, r"budget exceeded: 3 turns, allowed are 2", r"turn 0: budget exceeded: \d+ sampled tokens, the"
    )
    edit_json(other / place / "evaluation.json", lambda data: data["sampling"].update(max_tokens=1000))
    found(other, strict, "evaluation.json: turns of 1000 tokens, the suite allows 30: budget exceeded")


def test_an_exceeded_time_budget(run_folder: Path, forge: Forge, run_in: Any, build_suite: Any, entries: Any) -> None:
    timed = build_suite({**entries["echo"], "budget": {"seconds": 60}})
    folder = run_in(timed, run_folder.parent / "timed")
    assert verify_run(folder, suite=timed).ok
    forge(folder, "echo", each(lambda episode: setattr(episode.turns[0], "sampling_seconds", 100.0)))
    found(folder, timed, "budget exceeded: 100.0 seconds, allowed are 60")


def test_an_exceeded_window(run_folder: Path, suite: Suite, build_suite: Any, entries: Any) -> None:
    small = build_suite({**entries["echo"], "window": {"limit": 200}})
    (run_folder / "suite.json").write_text(json.dumps(small.to_dict()))
    found(run_folder, small, "echo: evaluation.json: window limit None, the suite prescribes 200")


def test_a_changed_environment_version(
    run_folder: Path, suite: Suite, forge: Forge, echo_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(run_folder, "echo", each(lambda episode: episode.env.update(version="0")))
    found(run_folder, suite, "made in version 0 of the environment, the suite asks for 1")
    monkeypatch.setattr(echo_class, "version", "2")
    found(run_folder, suite, "echo: entry 'echo': the suite asks for version 1 of .*, installed is version 2")


def test_reordered_samples(run_folder: Path, suite: Suite, forge: Forge) -> None:
    rows = run_folder / "entries/pointer/shard-1-of-1/episodes.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    found(run_folder, suite, "its tokens begin at .*: rows were removed, added or re-ordered")

    def swap_turns(episode: Episode) -> None:
        episode.turns[0], episode.turns[1] = episode.turns[1], episode.turns[0]

    forge(run_folder, "echo", each(swap_turns))
    found(run_folder, suite, "echo: episode 'e0/0': segment 0: the tokens marked as sampled are not those of its turns")

    def swap_texts(episode: Episode) -> None:
        swap_turns(episode)
        a, b = episode.turns[1:3]
        a.text, b.text, a.error, b.error = b.text, a.text, b.error, a.error

    forge(run_folder, "echo", each(swap_texts))
    found(run_folder, suite, r"echo: episode 'e0/0': turn \d")


def test_invented_tool_results(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        turn = episode.turns[0]
        turn.observation = turn.observation.replace("wört", "word")
        turn.calls[0].output = "word"

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "echo: episode 'e0/0': turn 0: the observation differs")
    forge(run_folder, "ask", each(change))
    found(run_folder, suite, "ask: episode 'e0/0': turn 0: the observation differs")


def test_a_tool_result_invented_in_the_record_of_the_call_alone(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        call = episode.turns[0].calls[1]
        call.error, call.output = None, "done"

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "turn 0: the calls differ")
    forge(run_folder, "ask", each(change))
    found(run_folder, suite, "ask: episode 'e0/0': turn 0: the observation is not what its calls gave back")


def test_an_invented_answer_of_a_sub_model(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        call = next(call for turn in episode.turns for call in turn.calls if call.model == "self")
        turn = next(turn for turn in episode.turns if call in turn.calls)
        turn.observation, call.output = turn.observation.replace("small", "large"), "large"

    forge(run_folder, "ask", each(change))
    found(run_folder, suite, r"ask: episode 'e0/0': turn \d: the observation differs")


def test_cheaper_sub_models(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        episode.usage["cost"] = 0.0

    forge(run_folder, "ask", each(change))
    found(run_folder, suite, "ask: episode 'e0/0': usage: recorded")


def test_tasks_that_are_none_of_the_suites(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        if episode.task_id == "e0":
            episode.task_id, episode.id, episode.task["id"] = "easy", "easy/0", "easy"

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "episode 'easy/0': its task is none of the suite's", "episode 'e0/0' is missing")

    def again(episodes: list[Episode]) -> list[Episode]:
        extra = copy.deepcopy(episodes[1])
        extra.attempt, extra.id = 7, f"{extra.task_id}/7"
        mislabelled = copy.deepcopy(episodes[1])
        mislabelled.id = "e1/5"
        return [*episodes, extra, mislabelled]

    forge(run_folder, "echo", again)
    found(run_folder, suite, "the suite asks for 1 attempts", "its id is not that of attempt 0 at task")


def test_an_easier_task_under_the_same_id(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        episode.task["answer"] = "no"
        if episode.reward == 0:
            make_right(episode)

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "its task is not as the suite has it: answer is 'no', it should be 'word0'")


def test_another_seed(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "pointer", each(lambda episode: setattr(episode, "seed", 5)))
    found(run_folder, suite, r"its seed is 5, the suite's gives \d+")


def test_swapped_shards(tmp_path: Path, run_in: Any, build_suite: Any, entries: Any) -> None:
    suite = build_suite(entries["pointer"])
    folder = run_in(suite, tmp_path / "run", shards=2)
    assert verify_run(folder, suite=suite).ok
    place = folder / "entries/pointer"
    (place / "shard-1-of-2").rename(place / "x")
    (place / "shard-2-of-2").rename(place / "shard-1-of-2")
    (place / "x").rename(place / "shard-2-of-2")
    found(folder, suite, "its task belongs to shard 2", "shard 1 of 2: evaluation.json: tasks is")


def test_shards_of_different_agents_and_missing_ones(
    tmp_path: Path, run_in: Any, build_suite: Any, entries: Any
) -> None:
    suite = build_suite(entries["pointer"])
    folder = run_in(suite, tmp_path / "run", shards=2)
    place = folder / "entries/pointer"
    edit_json(place / "shard-2-of-2/evaluation.json", lambda data: data.update(agent="other"))
    found(folder, suite, "agent is 'other', in pointer it is 'uninformed_plan': one run has one agent")
    (place / "shard-2-of-2").rename(tmp_path / "away")
    found(folder, suite, "pointer: shard 2 of 2 is missing", "result.json: does not say what the episodes say")
    (place / "shard-1-of-4").mkdir()
    found(folder, suite, "shards of 2 and of 4 in one run")


@pytest.mark.parametrize("name", ["accuracy", "turns", "seconds"])
def test_edited_report_cards(run_folder: Path, suite: Suite, name: str) -> None:
    path = run_folder / "entries/pointer/shard-1-of-1/report_card.json"
    edit_json(path, lambda card: card[name].update(value=0.99))
    edit_json(run_folder / "result.json", lambda result: result["entries"][0]["card"][name].update(high=1.5))
    assert [re.sub(r"[\d.]+(e-\d+)?(?=[,;]|$)", "N", sentence) for sentence in findings(run_folder, suite)] == [
        f"pointer/report_card.json: does not say what the episodes say: {name}.value is N, computed again N",
        f"result.json: does not say what the episodes say: entries.0.card.{name}.high is N, computed again N",
    ]


def test_numbers_of_another_version_of_the_package(run_folder: Path, suite: Suite) -> None:
    edit_json(run_folder / "result.json", lambda result: result["accuracy"].update(value=0.123))
    place = run_folder / "entries/echo/shard-1-of-1"
    edit_json(place / "evaluation.json", lambda data: data["versions"].update(forethought="0.0.1"))
    found(run_folder, suite, r"result.json: .* \(made with forethought 0.0.1, this is .*: verify with that version\)")
    edit_json(place / "evaluation.json", lambda data: data.update(versions=[1]))
    found(run_folder, suite, "result.json: does not say what the episodes say")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r["accuracy"].update(value=1.0), "accuracy.value is 1.0"),
        (lambda r: r["entries"][0]["tasks"].pop(), "entries.0.tasks is a list of 11"),
        (lambda r: r["entries"][0]["horizon"]["steps"].update(value=99.0), "horizon.steps.value is 99.0"),
        (lambda r: r["agent"].update(name="famous"), "agent.name is 'famous', computed again 'agent'"),
        (lambda r: r.update(money=0.0), "money is 0.0, computed again None"),
    ],
)
def test_edited_results(run_folder: Path, suite: Suite, change: Callable[[Any], object], told: str) -> None:
    edit_json(run_folder / "result.json", change)
    found(run_folder, suite, told)


def test_tokens_that_do_not_spell_the_text(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        turn = episode.turns[0]
        ids = episode.segments[0].token_ids
        ids[turn.start + 4], ids[turn.start + 5] = ids[turn.start + 5], ids[turn.start + 4]

    forge(run_folder, "echo", each(change))
    found(run_folder, suite, "echo: episode 'e0/0': turn 0: the text is not what its tokens say")
    forge(run_folder, "ask", each(change))
    found(run_folder, suite, "ask: episode 'e0/0': turn 0: the text is not what its tokens say")


def _shorten(episode: Episode) -> None:
    """Fewer sampled tokens than there were, everywhere where they are counted."""
    segment, turn = episode.segments[0], episode.turns[0]
    del segment.token_ids[turn.start : turn.start + 3]
    del segment.sampled[turn.start : turn.start + 3]
    del segment.logprobs[turn.start : turn.start + 3]
    for number, later in enumerate(episode.turns):
        later.start, later.end = later.start - 3 * (number > 0), later.end - 3
    for span in segment.sections:
        span.start, span.end = max(turn.start, span.start - 3), span.end - 3
    episode.usage["sampled_tokens"] -= 3
    episode.usage["context_tokens"] = sum(turn.end for turn in episode.turns)


def test_forged_sampled_tokens(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "echo", each(lambda episode: episode.usage.update(sampled_tokens=10)))
    found(run_folder, suite, "echo: episode 'e0/0': usage: recorded .*'sampled_tokens': 10")
    forge(run_folder, "pointer", each(_shorten))
    found(run_folder, suite, "pointer: episode .*: turn 0: the text is not what its tokens say")


def test_fewer_tokens_marked_as_sampled(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        episode.segments[0].sampled[episode.turns[0].start] = 0

    forge(run_folder, "pointer", each(change))
    found(run_folder, suite, "segment 0: the tokens marked as sampled are not those of its turns")


def test_fewer_tokens_read(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "pointer", each(lambda episode: episode.usage.update(context_tokens=1)))
    found(run_folder, suite, r"usage: recorded 1 context tokens, its turns have \d+")

    def change(episode: Episode) -> None:
        segment = episode.segments[0]
        for values in (segment.token_ids, segment.sampled, segment.logprobs):
            del values[1:3]
        for turn in episode.turns:
            turn.start, turn.end = turn.start - 2, turn.end - 2
        for span in segment.sections:
            span.start, span.end = span.start - 2, span.end - 2
        episode.usage["context_tokens"] = sum(turn.end for turn in episode.turns)

    forge(run_folder, "pointer", each(change))
    found(run_folder, suite, "turn 0: the context that is recorded before it is not the one of the task")


def test_words_that_say_several_words(run_folder: Path, suite: Suite) -> None:
    path = run_folder / "entries/pointer/shard-1-of-1/context.json"
    edit_json(path, lambda data: data["tokenizer"]["words"].append("<plan> 1. follow 3 </plan>"))
    found(run_folder, suite, "the tokenizer's words are not single words")
    edit_json(path, lambda data: data["tokenizer"]["words"].__setitem__(-1, "<think>A</think><answer>A</answer>"))
    found(run_folder, suite, "the tokenizer's words are not single words")
    tokenizer = json.loads(path.read_text())["tokenizer"]
    edit_json(path.parents[2] / "echo/shard-1-of-1/context.json", lambda data: data.update(tokenizer=tokenizer))
    found(run_folder, suite, "a tokenizer of words in an environment that is not written in words")
    edit_json(path, lambda data: data.update(schema="forethought/leaderboard-context/2"))
    found(run_folder, suite, "expected schema 'forethought/leaderboard-context/1'")
    path.unlink()
    found(run_folder, suite, "context.json is missing")


def test_the_tokenizer_of_a_model(
    tmp_path: Path, build_suite: Any, entries: Any, agent_for: Any, chat_tokenizer: Any
) -> None:
    suite, form = build_suite(entries["echo"]), ChatFormat(chat_tokenizer)

    def make_agent(env: ToolEnv) -> ScriptedAgent:
        agent: ScriptedAgent = agent_for(env)
        agent.format = form
        return agent

    background_loop.run(run_suite(suite, make_agent, tmp_path, card=AgentCard(name="chat")))
    report = verify_run(tmp_path, suite=suite)
    assert report.ok and (report.episodes, report.by_token) == (4, 0)
    report = verify_run(tmp_path, suite=suite, model_format=form)
    assert report.ok and (report.episodes, report.by_token) == (4, 4)


def test_log_probabilities_above_zero(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "echo", each(lambda episode: episode.segments[0].logprobs.__setitem__(-1, 0.5)))
    found(run_folder, suite, "segment 0: the log-probability of a token is above 0")
    forge(run_folder, "echo", each(lambda episode: episode.segments[0].logprobs.__setitem__(-1, math.nan)))
    assert verify_run(run_folder, suite=suite).ok


def _hide_tokenizer(folder: Path, entry: str) -> None:
    path = folder / f"entries/{entry}/shard-1-of-1/context.json"
    edit_json(path, lambda data: data.update(tokenizer={"kind": "unknown"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: e.plans.clear(), "the recorded plans are not those of the turns"),
        (lambda e: setattr(e.turns[1], "error", None), "turn 1: recorded with format error None"),
        (lambda e: e.segments[0].sections.pop(), "the recorded sections are not those of its text"),
        (lambda e: e.turns[0].calls.pop(), "turn 0: the recorded calls are not those of its text"),
        (lambda e: setattr(e, "stop_reason", "turns"), "do not fit together"),
        (lambda e: setattr(e, "retries", 0), None),
    ],
)
def test_without_the_tokenizer_texts_are_checked(
    run_folder: Path, suite: Suite, forge: Forge, change: Callable[[Any], object], told: str | None
) -> None:
    _hide_tokenizer(run_folder, "echo")
    report = verify_run(run_folder, suite=suite)
    assert report.ok and report.by_token == 26
    forge(run_folder, "echo", each(change))
    if told is None:
        assert verify_run(run_folder, suite=suite).ok
    else:
        found(run_folder, suite, told)


def test_summaries_are_played_again(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episode: Episode) -> None:
        assert len(episode.segments) > 1
        episode.segments[1].token_ids[5] += 1

    forge(run_folder, "long", each(change))
    found(run_folder, suite, r"long: episode 'e0/0': turn \d: the context that is recorded before it is not the one")


def test_another_suite(run_folder: Path, build_suite: Any, entries: Any) -> None:
    other = build_suite({**entries["pointer"], "tasks": 10})
    found(run_folder, other, "suite: the run answers another suite: s 1 with SHA-256 .*, expected s 1 with")
    assert len(findings(run_folder, other)) == 1


def test_what_does_not_belong(run_folder: Path, suite: Suite) -> None:
    (run_folder / "entries/more").mkdir()
    found(run_folder, suite, "entries/more: is no entry of the suite")
    (run_folder / "result.json").unlink()
    found(run_folder, suite, "result.json: is missing: `forethought leaderboard merge` writes it")


def test_an_intervention_does_not_count(run_folder: Path, suite: Suite, forge: Forge) -> None:
    forge(run_folder, "echo", each(lambda episode: episode.window.update(intervention="summary")))
    found(run_folder, suite, "made under the window .*'intervention'")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:-20], r"line 4: the last line is not whole: its writer was killed"),
        (
            lambda text: text.replace(b"episode/1", b"episode/9", 1),
            "line 1: written with schema 'forethought/episode/9'",
        ),
        (lambda text: b"nonsense\n" + text, "line 1: not JSON"),
        (lambda text: b"[" * 9000 + b"\n" + text, "line 1: not JSON"),
        (lambda text: text.replace(b'"reward":', b'"rewards":', 1), "line 1: does not fit the schema"),
        (lambda text: b"", "episode 'e0/0' is missing"),
    ],
)
def test_damage_is_named_and_the_rest_is_read(
    run_folder: Path, suite: Suite, damage: Callable[[bytes], bytes], told: str
) -> None:
    path = run_folder / "entries/echo/shard-1-of-1/episodes.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    found(run_folder, suite, told)
    assert verify_run(run_folder, suite=suite).episodes >= 28


def test_missing_files_are_named(run_folder: Path, suite: Suite) -> None:
    place = run_folder / "entries/echo/shard-1-of-1"
    with (place / "tokens/token_ids.i32").open("r+b") as file:
        file.truncate(100)
    found(
        run_folder,
        suite,
        "episode 'e0/0': its tokens are missing",
        "tokens that belong to no episode|tokens are missing",
    )
    (place / "evaluation.json").write_text("[1")
    found(run_folder, suite, "evaluation.json: not JSON")
    (place / "report_card.json").unlink()
    found(run_folder, suite, "report_card.json is missing")
    (place / "episodes.jsonl").unlink()
    found(run_folder, suite, "echo: episodes.jsonl is missing")
    (run_folder / "agent.json").write_text("{}")
    found(run_folder, suite, "agent.json: not the description of an agent")
    (run_folder / "suite.json").unlink()
    found(run_folder, suite, "suite.json is missing")


def test_hostile_numbers_are_findings_not_crashes(run_folder: Path, suite: Suite, forge: Forge) -> None:
    def change(episodes: list[Episode]) -> list[Episode]:
        first, second, third, fourth = episodes
        first.turns[0].segment = 99
        second.segments[0].parent = (5, 5)
        third.turns[0].start, third.turns[0].end = 10**9, 10**9 + 5
        fourth.segments[0].token_ids[0] = -(2**31)
        return episodes

    place = run_folder / "entries/echo/shard-1-of-1"
    with contextlib.suppress(IndexError, AssertionError):  # even the forger cannot grade it
        forge(run_folder, "echo", change)
    told = findings(run_folder, suite)
    assert place.exists() and sum("echo: episode" in sentence for sentence in told) >= 4, told


def test_a_turn_of_fifty_megabytes(run_folder: Path, suite: Suite) -> None:
    path = run_folder / "entries/echo/shard-1-of-1/episodes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    row = json.loads(lines[0])
    row["turns"][1]["text"] = "garbage " * (50 * 2**17)
    path.write_bytes(json.dumps(row).encode() + b"\n" + b"".join(lines[1:]))
    told = findings(run_folder, suite)
    assert any("episode 'e0/0': " in sentence for sentence in told)
    assert all(len(sentence) < 1000 for sentence in told)
