"""Training on trees: every segment gets its episode's advantage, and where an episode was cut is no weight."""

from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.agents.episode import Episode, SegmentKind

from .tiny_grpo import FakeRollout, distance, make_episode, make_model, make_trainer, one_gradient, reference_gradient
from .trees import BYTES, by_place, cut_segments, make_tree, roll_out

TOLERANCE = 1e-5
PENALTIES = {"failed_call": 0.3, "repeated_call": 0.2, "unused_sub_call": 0.25, "long_section": 0.1}


@cache
def tree(place: int) -> Episode:
    """A rolled out tree; rewards differ within the groups of four."""
    episode = roll_out(place)
    episode.reward = [1.0, 0.0, 0.75, 0.0, 0.5, 1.0, 1.0, 0.25][place % 8]
    episode.scores = {"correct": float(episode.reward == 1.0)}
    return episode


def tree_gradient(folder: Path, make: Callable[[int], Episode] = tree, **options: Any) -> torch.Tensor:
    return one_gradient(folder, FakeRollout(by_place(make)), model=make_model(vocabulary=BYTES), **options)


def tree_reference(denominator: str = "prompt", make: Callable[[int], Episode] = tree, **options: Any) -> torch.Tensor:
    return reference_gradient(
        [make(i) for i in range(8)], 4, denominator, model=make_model(vocabulary=BYTES), **options
    )


def test_the_trees_hold_what_these_tests_are_about() -> None:
    trees = [tree(place) for place in range(8)]
    kinds = Counter(segment.kind for episode in trees for segment in episode.segments)
    assert kinds[SegmentKind.ROOT] == 8 and kinds[SegmentKind.SUB_CALL] >= 24 and kinds[SegmentKind.AFTER_SUMMARY] >= 12
    assert {episode.depth_of(i) for episode in trees for i in range(len(episode.segments))} == {0, 1, 2}
    assert len({len(episode.segments) for episode in trees}) > 1
    assert {span.kind for e in trees for s in e.segments for span in s.sections} == {
        "plan", "think", "call", "summary", "answer",
    }  # fmt: skip


@pytest.mark.parametrize("denominator", ["prompt", "token", "episode", "constant"])
def test_every_segment_gets_the_advantage_of_its_episode(tmp_path: Path, denominator: str) -> None:
    gradient = tree_gradient(tmp_path, loss_denominator=denominator, token_budget=2000)
    assert distance(gradient, tree_reference(denominator)) < TOLERANCE


def test_the_sampled_ids_are_the_trained_ids(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, FakeRollout(by_place(tree)), model=make_model(vocabulary=BYTES), drop_groups_without_signal=False
    )
    batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 8)
    trained = [
        (ids[mask.bool()].tolist(), logprobs[mask.bool()].tolist())
        for ids, mask, logprobs in zip(
            batch["completion_ids"],
            batch["completion_mask"] * batch["tool_mask"],
            batch["sampling_per_token_logps"],
            strict=True,
        )
    ]
    sampled = [
        (
            [token for token, mine in zip(s.token_ids, s.sampled, strict=True) if mine],
            [logprob for logprob, mine in zip(s.logprobs, s.sampled, strict=True) if mine],
        )
        for place in range(8)
        for s in tree(place).segments
    ]
    assert trained == sampled
    assert sum(len(ids) for ids, _ in trained) == sum(tree(place).usage["sampled_tokens"] for place in range(8))


@pytest.mark.parametrize(
    "options",
    [
        *({"loss_denominator": name} for name in ("prompt", "token", "episode", "constant")),
        {"section_credit": PENALTIES, "section_limits": {"think": 10, "summary": 12}},
        {"scale_rewards": "group", "section_credit": PENALTIES, "section_limits": {"plan": 5}},
    ],
    ids=str,
)
def test_cutting_a_tree_into_more_segments_leaves_the_gradient_unchanged(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    cut = [cut_segments(tree(place)) for place in range(8)]
    assert sum(len(e.segments) for e in cut) > 1.5 * sum(len(tree(place).segments) for place in range(8))
    assert [e.sampled_tokens() for e in cut] == [tree(place).sampled_tokens() for place in range(8)]
    whole = tree_gradient(tmp_path, **options)
    assert distance(tree_gradient(tmp_path, cut.__getitem__, **options), whole) < TOLERANCE


def test_statistics_over_segments_do_depend_on_the_cut(tmp_path: Path) -> None:
    cut = [cut_segments(tree(place)) if place % 2 else tree(place) for place in range(8)]
    whole = tree_gradient(tmp_path, credit="segment_statistics")
    assert distance(tree_gradient(tmp_path, cut.__getitem__, credit="segment_statistics"), whole) > 0.01
    assert distance(tree_gradient(tmp_path, cut.__getitem__), tree_gradient(tmp_path)) < TOLERANCE


def test_the_summary_is_trained(tmp_path: Path) -> None:
    """Without the tokens of the contexts that a summary ended, and without those of the summaries, it is another."""

    def without(segments: bool, place: int) -> Episode:
        episode = cut_segments(tree(place))
        for segment in episode.segments:
            for span in segment.sections:
                if span.kind == "summary":
                    start, end = (0, len(segment.sampled)) if segments else (span.start, span.end)
                    segment.sampled[start:end] = [0] * (end - start)
        return episode

    whole = tree_gradient(tmp_path)
    for segments in (True, False):
        assert distance(tree_gradient(tmp_path, partial(without, segments)), whole) > 0.02


def test_gradient_on_the_last_segment_only(tmp_path: Path) -> None:
    def last(episode: Episode) -> list[int]:
        return [turn.segment for turn in episode.turns if turn.text.endswith("</answer>")][-1:]

    for denominator in ("prompt", "episode"):
        gradient = tree_gradient(tmp_path, credit="last_segment", loss_denominator=denominator)
        assert distance(gradient, tree_reference(denominator, trained=last)) < TOLERANCE
        assert distance(gradient, tree_gradient(tmp_path, loss_denominator=denominator)) > 0.1


def test_statistics_over_segments(tmp_path: Path) -> None:
    gradient = tree_gradient(tmp_path, credit="segment_statistics")
    assert distance(gradient, tree_reference(samples=lambda episode: len(episode.segments))) < TOLERANCE
    assert distance(gradient, tree_gradient(tmp_path)) > 0.01


@pytest.mark.parametrize("padding_free", [False, True])
def test_a_tree_of_200_segments_trains_within_the_token_budget(tmp_path: Path, padding_free: bool) -> None:
    budget = 128
    episodes = [make_tree(0, 200), *(make_episode(place) for place in range(1, 8))]
    assert max(len(s.token_ids) for e in episodes for s in e.segments) <= budget
    assert sum(len(s.token_ids) for s in episodes[0].segments) > 20 * budget
    model = make_model()
    passes: list[int] = []

    def measure(module: Any, args: Any, options: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            passes.append(options["input_ids"].numel())

    model.model.register_forward_pre_hook(measure, with_kwargs=True)
    gradient = one_gradient(
        tmp_path,
        FakeRollout(by_place(episodes.__getitem__)),
        model=model,
        token_budget=budget,
        padding_free=padding_free,
    )
    assert len(passes) > 20
    assert max(passes) <= budget
    assert distance(gradient, reference_gradient(episodes, 4, "prompt")) < TOLERANCE
