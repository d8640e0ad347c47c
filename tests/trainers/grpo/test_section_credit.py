"""Section credit: an extra reward on single sections that only bites in successful episodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.agents.episode import Episode, SectionSpan, Segment, SegmentKind, Turn
from forethought.envs.tools import CallResult
from forethought.trainers.grpo import Credit

from .tiny_grpo import FakeRollout, distance, make_episode, make_trainer, one_gradient, reference_gradient
from .trees import by_place

TOLERANCE = 1e-5


def write(
    episode: Episode, segment: int, *sections: tuple[str, int], text: str = "", calls: tuple[CallResult, ...] = ()
) -> None:
    """Append a turn of sections of so many tokens each, one token that ends it, and two tokens that answer it."""
    part = episode.segments[segment]
    start = len(part.token_ids)
    for kind, tokens in sections:
        part.sections.append(SectionSpan(kind, len(part.token_ids), len(part.token_ids) + tokens))
        part.append_sampled([5 + len(part.token_ids) % 40] * tokens, [-1.0] * tokens)
    part.append_sampled([4], [-1.0])
    turn = Turn(text=text, observation="", segment=segment, start=start, end=len(part.token_ids), calls=list(calls))
    episode.turns.append(turn)
    part.give([8, 9])


def call(name: str = "look", *, output: str = "", error: str | None = None, **more: Any) -> CallResult:
    return CallResult(name=name, arguments=more.pop("arguments", {}), output=output, error=error, **more)


def story(reward: float, place: int = 0) -> Episode:
    """A root that asks twice (one answer is used), fails a call, repeats a call and thinks for long; two sub-calls."""
    episode = Episode(id=f"{place}/0", task_id=str(place), attempt=0, env={}, task={}, seed=0, reward=reward)
    root, first, second = Segment(), Segment(kind=SegmentKind.SUB_CALL), Segment(kind=SegmentKind.SUB_CALL)
    for segment in (root, first, second):
        segment.give([3, 6])
        episode.segments.append(segment)
    asks = (
        call("ask", output="Paris", model="self", child=1, arguments={"task": "a"}),
        call("ask", output="E1", model="self", child=2, arguments={"task": "b"}),
    )
    write(episode, 0, ("plan", 3), ("call", 2), ("call", 3), calls=asks)  # tokens 2:5, 5:7, 7:10, end 10
    first.parent = second.parent = (0, 11)
    write(episode, 1, ("answer", 2))
    write(episode, 2, ("think", 2), ("answer", 3))
    write(episode, 0, ("think", 6), ("call", 2), calls=(call(error="timeout"),))  # 13:19, 19:21
    write(episode, 0, ("call", 2), ("call", 2), calls=(call(output="x"), call(output="x")))  # 24:26, 26:28
    write(episode, 0, ("answer", 2), text="<answer> PARIS, not E17 </answer>")  # 31:33
    return episode


def q_of(trainer_options: dict[str, Any], tmp_path: Path, *episodes: Episode) -> list[dict[int, list[float]]]:
    """Of each of four episodes: by segment, what each sampled token is trained on, as a reward over the mean."""
    rollout = FakeRollout(by_place(lambda place: episodes[place]))
    trainer = make_trainer(
        tmp_path, rollout, per_device_train_batch_size=4, drop_groups_without_signal=False, **trainer_options
    )
    batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 4)
    advantages = batch["advantages"]
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1).expand(batch["completion_ids"].shape)
    found: list[dict[int, list[float]]] = []
    row = 0
    for episode in episodes:
        found.append({})
        for index in range(len(episode.segments)):
            mask = (batch["completion_mask"] * batch["tool_mask"])[row].bool()
            found[-1][index] = advantages[row][mask].tolist()  # one prompt: TRL's count and the denominator cancel
            row += 1
    return found


# Tokens that story() samples, by segment: the root 3 + 2 + 3 + 1, 6 + 2 + 1, 2 + 2 + 1, 2 + 1; the sub-calls 3 and 6.
ROOT = 9 + 9 + 5 + 3
EXPECTED = {
    "failed_call": {0: [0] * 15 + [1, 1] + [0] * 9, 1: [0] * 3, 2: [0] * 6},
    "repeated_call": {0: [0] * 20 + [1, 1] + [0] * 4, 1: [0] * 3, 2: [0] * 6},
    "unused_sub_call": {0: [0] * 5 + [1, 1, 1] + [0] * 18, 1: [0] * 3, 2: [1] * 6},
    "long_section": {0: [0] * 13 + [1, 1] + [0] * 11, 1: [0] * 3, 2: [0] * 6},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_penalty_is_on_the_tokens_that_it_is_about(tmp_path: Path, name: str) -> None:
    limits = {"think": 4} if name == "long_section" else {}
    episodes = [story(1.0), story(0.0), story(0.0), story(1.0)]
    options = {"section_credit": {name: 0.25}, "section_limits": limits}
    success, failure, *_ = q_of(options, tmp_path, *episodes)
    assert sum(map(len, success.values())) == ROOT + 3 + 6
    for segment, penalised in EXPECTED[name].items():
        assert success[segment] == pytest.approx([0.5 - 0.25 * p for p in penalised])
        assert failure[segment] == pytest.approx([-0.5] * len(penalised))


def test_penalties_add_up_and_are_clipped(tmp_path: Path) -> None:
    """R + Q = 1 - .7 on the failed call; .6 - .7 on it in the second episode, which is clipped to 0."""
    options = {"section_credit": {"failed_call": 0.7, "unused_sub_call": 0.5}}
    found = q_of(options, tmp_path, story(1.0), story(0.6), story(0.0), story(0.0))
    failed, unused = slice(15, 17), slice(5, 8)
    assert found[0][0][failed] == pytest.approx([0.3 - 0.4] * 2)
    assert found[0][0][unused] == pytest.approx([0.5 - 0.4] * 3)
    assert found[1][0][failed] == pytest.approx([0.0 - 0.4] * 2)
    assert found[1][2] == pytest.approx([0.1 - 0.4] * 6)
    assert found[2] == found[3] and found[2][0] == pytest.approx([-0.4] * ROOT)


def test_a_reward_outside_the_range_is_left_alone_where_nothing_is_penalised(tmp_path: Path) -> None:
    found = q_of({"section_credit": {"failed_call": 0.5}}, tmp_path, story(1.25), story(-1.0), story(0.0), story(0.25))
    mean = 0.125
    assert found[0][0][14:17] == pytest.approx([1.25 - mean, 0.75 - mean, 0.75 - mean])
    assert found[1][0] == pytest.approx([-1.0 - mean] * ROOT)
    assert found[3][0][14:17] == pytest.approx([0.25 - mean, 0.0 - mean, 0.0 - mean])


def test_penalties_work_in_groups_where_all_succeed(tmp_path: Path) -> None:
    options = {"section_credit": {"failed_call": 0.5}}
    rollout = FakeRollout(by_place(lambda place: story(1.0, place)))
    assert one_gradient(tmp_path, rollout, **options).any()
    assert not one_gradient(tmp_path, rollout).any()


def test_a_credit_of_ones_own(tmp_path: Path) -> None:
    def credit(episode: Episode) -> Iterator[Credit]:
        yield Credit(0, 0, 4, 0.5)  # the plan, and two given tokens, which take none
        yield Credit(0, 3, 5, -0.25)

    found = q_of({"section_credit_hook": credit}, tmp_path, story(0.5), story(0.0), story(0.5), story(1.0))
    assert found[0][0][:4] == pytest.approx([0.5, 0.25, -0.25, 0.0])  # 0.5 + 0.5, + 0.25, - 0.25; the mean is 0.5
    assert found[0] == found[2]
    assert found[1][0] == pytest.approx([-0.5] * ROOT)  # a failure is not rewarded either
    assert found[3][0][:4] == pytest.approx([0.5, 0.5, 0.25, 0.5])  # and a success gets no more than 1


def test_rows_are_kept_for_their_section_credit_alone(tmp_path: Path) -> None:
    rollout = FakeRollout(by_place(lambda place: story([0.5, 0.0, 0.5, 1.0][place % 4])))
    trainer = make_trainer(tmp_path, rollout, section_credit={"unused_sub_call": 0.1})
    batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 8)
    # Of the two episodes with advantage 0 in each group, the sub-call whose answer was used is dropped.
    assert len(batch["prompt_ids"]) == 2 * (2 + 3 + 2 + 3)


@pytest.mark.parametrize(
    "bad",
    [
        Credit(3, 0, 1, 1.0),
        Credit(-1, 0, 1, 1.0),
        Credit(0, 0, 99, 1.0),
        Credit(0, 2, 1, 1.0),
        Credit(0, 0, 1, float("nan")),
    ],
)
def test_a_credit_outside_the_episode_is_rejected(tmp_path: Path, bad: Credit) -> None:
    rollout = FakeRollout(by_place(lambda place: story(float(place % 2 == 0), place)))
    with pytest.raises(ValueError, match=r"section_credit gave episode '0/0' Credit\("):
        one_gradient(tmp_path, rollout, section_credit_hook=lambda episode: [bad])


@pytest.mark.parametrize(
    "options",
    [
        {"section_credit": {"failed_call": 0.0, "repeated_call": 0.0}},
        {"section_credit": {"failed_call": 0.5}, "section_credit_range": (1.0, 2.0)},  # no episode is above 1
        {"section_credit": {"failed_call": 0.5, "long_section": 1.0}, "section_limits": {"think": 500}},
    ],
    ids=["weights_of_zero", "no_success", "nothing_to_penalise"],
)
def test_without_terms_the_gradient_is_the_same_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    def plain(place: int) -> Episode:
        return (
            make_episode(place)
            if options["section_credit"]["failed_call"] and "section_limits" in options
            else story([1.0, 0.0, 0.5, 0.25][place % 4], place)
        )

    rollout = FakeRollout(by_place(plain))
    assert torch.equal(one_gradient(tmp_path, rollout, **options), one_gradient(tmp_path, rollout))


@pytest.mark.parametrize("scale", ["none", "group"])
def test_the_gradient_is_that_of_the_loss_written_out(tmp_path: Path, scale: str) -> None:
    rewards = [1.0, 0.0, 0.5, 1.0, 0.0, 0.0, 1.0, 0.75]
    episodes = [story(reward, place) for place, reward in enumerate(rewards)]

    def extra(episode: Episode, index: int) -> list[float]:
        sampled = iter(EXPECTED["unused_sub_call"][index])
        penalised = [next(sampled) if mine else 0 for mine in episode.segments[index].sampled]
        return [max(episode.reward - 0.6 * p, 0.0) - episode.reward for p in penalised]

    options: dict[str, Any] = {"section_credit": {"unused_sub_call": 0.6}, "token_budget": 60, "scale_rewards": scale}
    gradient = one_gradient(tmp_path, FakeRollout(by_place(episodes.__getitem__)), **options)
    if scale == "group":
        # The term is divided by the same deviation as the advantage: both groups apart, each divided by its own.
        parts = []
        for start in (0, 4):
            group = episodes[start : start + 4]
            deviation = torch.tensor(rewards[start : start + 4]).std().item() + 1e-4
            parts.append(reference_gradient(group, 4, "prompt", extra=extra) / deviation / 2)
        reference = parts[0] + parts[1]
    else:
        reference = reference_gradient(episodes, 4, "prompt", extra=extra)
    assert distance(gradient, reference) < TOLERANCE
    assert (
        distance(gradient, one_gradient(tmp_path, FakeRollout(by_place(episodes.__getitem__)), scale_rewards=scale))
        > 0.01
    )


def test_it_composes_with_the_correction_for_the_sampler(tmp_path: Path) -> None:
    episodes = [story([1.0, 0.0, 0.5, 1.0][place % 4], place) for place in range(8)]

    def extra(episode: Episode, index: int) -> list[float]:
        sampled = iter(EXPECTED["failed_call"][index])
        return [
            max(episode.reward - 0.6 * (next(sampled) if mine else 0), 0.0) - episode.reward
            for mine in episode.segments[index].sampled
        ]

    gradient = one_gradient(
        tmp_path,
        FakeRollout(by_place(episodes.__getitem__)),
        section_credit={"failed_call": 0.6},
        sampler_correction="token_truncate",
    )
    reference = reference_gradient(
        episodes, 4, "prompt", extra=extra, weigh=lambda ours, theirs: (ours - theirs).exp().clamp(max=2.0)
    )
    assert distance(gradient, reference) < TOLERANCE
