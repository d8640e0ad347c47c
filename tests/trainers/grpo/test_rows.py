"""Rows of episodes, and what is not accepted as one."""

from typing import Any

import pytest
import torch

from forethought.agents.episode import Episode, Segment, SegmentKind, Status
from forethought.trainers.grpo.batches import cut, select_rows
from forethought.trainers.grpo.forward import IGNORED, LeftAligned
from forethought.trainers.grpo.rows import PADDING, check_episode, episode_rows, pad_rows, trained_segments


def _episode(*segments: Segment, **fields: Any) -> Episode:
    return Episode(id="t/0", task_id="t", attempt=0, env={}, task={}, seed=0, segments=list(segments), **fields)


def _segment(ids: list[int], sampled: list[int], logprobs: list[float] | None = None) -> Segment:
    return Segment(token_ids=ids, sampled=sampled, logprobs=[0.0] * len(ids) if logprobs is None else logprobs)


def test_a_row_splits_at_the_first_sampled_token_and_ends_at_the_last() -> None:
    episode = _episode(
        _segment([5, 6, 7, 8, 9, 4], [0, 0, 1, 0, 1, 0], [0, 0, -1, 0, -2, 0]),
        _segment([5, 6], [0, 0]),  # a context that ended before the policy spoke
        _segment([5, 6], [0, 1]),
    )
    first, second = episode_rows(episode, 3)
    assert (first.prompt_ids, first.completion_ids) == ([5, 6], [7, 8, 9])
    assert (first.mask, first.logprobs, first.episode) == ([1, 0, 1], [-1, 0, -2], 3)
    assert (second.prompt_ids, second.completion_ids) == ([5], [6])


def test_the_last_segment_is_the_last_of_the_episodes_own_contexts_that_spoke() -> None:
    episode = _episode(*(_segment([5, 6], [0, 1]) for _ in range(4)), _segment([5, 6], [0, 0]))
    for segment, kind, parent in zip(
        episode.segments[1:], ("sub_call", "after_summary", "sub_call", "trimmed"), (0, 0, 2, 2), strict=True
    ):
        segment.kind, segment.parent = SegmentKind(kind), (parent, 2)
    assert trained_segments(episode, "episode") == [0, 1, 2, 3]
    assert trained_segments(episode, "last_segment") == [2]
    assert [row.segment for row in episode_rows(episode, 0, "last_segment")] == [2]


def test_padding_rows_train_nothing() -> None:
    rows = pad_rows(episode_rows(_episode(_segment([5, 6], [0, 1])), 0), 3, 9)
    assert [row.episode for row in rows] == [0, PADDING, PADDING]
    assert [sum(row.mask) for row in rows] == [1, 0, 0]
    with pytest.raises(ValueError, match="padded"):
        pad_rows(rows, 2, 9)


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (_episode(_segment([5, 6], [0, 1], [0.0])), "equally long"),
        (_episode(_segment([5, 6], [0, 1, 1])), "equally long"),
        (_episode(_segment([5, 6], [0, 2])), "other than 0 and 1"),
        (_episode(_segment([5, 6], [1, 1])), "begins with a sampled token"),
        (_episode(_segment([5, 99], [0, 1])), "outside 0..49"),
        (_episode(_segment([5, -1], [0, 1])), "outside 0..49"),
        (_episode(_segment([5, 6], [0, 0])), "no sampled token"),
        (_episode(), "no sampled token"),
        (_episode(_segment([5, 6], [0, 1]), reward=float("nan")), "finite"),
    ],
)
def test_says_what_is_wrong_and_where(episode: Episode, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_episode(episode, 50)
    assert "'t/0'" in str(caught.value)
    episode.status = Status.FAULT
    check_episode(episode, 50)


def test_a_budget_may_end_an_episode_before_its_first_token() -> None:
    check_episode(_episode(_segment([5], [0]), status=Status.TRUNCATED))


def test_cut_fills_runs_up_to_the_budget() -> None:
    lengths = [50, 9, 8, 8, 4, 4, 2]
    assert cut(lengths, 27, padded=True) == [(0, 1), (1, 4), (4, 7)]
    assert cut(lengths, 27, padded=False) == [(0, 1), (1, 4), (4, 7)]
    assert cut([9, 9, 1, 1], 20, padded=True) == [(0, 2), (2, 4)]
    assert cut([9, 9, 1, 1], 20, padded=False) == [(0, 4)]
    assert cut([], 20, padded=True) == []


def test_select_rows_trims_to_what_its_rows_need() -> None:
    inputs: dict[str, Any] = {
        "prompt_ids": torch.tensor([[0, 0, 5], [5, 6, 7]]),
        "prompt_mask": torch.tensor([[0, 0, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[8, 9, 0], [8, 0, 0]]),
        "completion_mask": torch.tensor([[1, 1, 0], [1, 0, 0]]),
        "advantages": torch.tensor([1.0, 2.0]),
        "num_items_in_batch": torch.tensor(3),
    }
    first = select_rows(inputs, torch.tensor([0]))
    assert first["prompt_ids"].tolist() == [[5]]
    assert first["completion_ids"].tolist() == [[8, 9]]
    assert first["advantages"].tolist() == [1.0]
    assert first["num_items_in_batch"] == 3


def test_left_alignment_labels_scored_tokens_only() -> None:
    ids = torch.tensor([[0, 5, 6, 7, 8], [1, 2, 3, 4, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    rows = LeftAligned.of(ids, mask, scored=torch.tensor([[1, 0, 1], [1, 1, 1]]))
    assert rows.ids[:, :4].tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    # Row 0: prompt [5], completion [6, 7, 8] of which 7 is not scored. Row 1: prompt [1, 2], completion [3, 4].
    assert rows.next_labels.tolist() == [[6, IGNORED, 8, IGNORED], [IGNORED, 3, 4, IGNORED]]
    assert rows.next_labels.gather(1, rows.columns).tolist() == [[6, IGNORED, 8], [3, 4, IGNORED]]
