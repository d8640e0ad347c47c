from typing import Any

from forethought.agents import Episode, Segment
from forethought.agents.episode import SectionSpan
from forethought.agents.evaluation.compression import measure


def episode(segments: list[Segment], **scores: float) -> Episode:
    task: dict[str, Any] = {"difficulty": 3.0}
    window = {"limit": 100, "policy": "learned"}
    return Episode(
        id="t/0", task_id="t", attempt=0, env={}, task=task, seed=0, window=window, segments=segments, scores=scores
    )


def segment(tokens: int, *spans: tuple[str, int, int]) -> Segment:
    made = Segment(sections=[SectionSpan(*span) for span in spans])
    made.give([1] * 10)
    made.append_sampled([2] * tokens, [0.0] * tokens)
    return made


def test_an_episode_with_summaries() -> None:
    segments = [segment(10, ("plan", 10, 14), ("summary", 14, 18)), segment(6, ("summary", 10, 12))]
    scores = {"correct": 1.0, "fact_recall": 0.5, "stale": 0.25, "updated": 0.75, "precision": 1.0}
    assert measure(episode([*segments, segment(4, ("answer", 10, 14))], **scores)) == {
        "accuracy_with_summary": (1.0, 1.0),
        "summaries": (2.0, 1.0),
        "summary_share": (6.0, 20.0),
        "fact_recall": (0.5, 1.0),
        "stale_rate": (0.25, 1.0),
        "update_rate": (0.75, 1.0),
        "precision": (1.0, 1.0),
    }


def test_an_episode_without_a_summary() -> None:
    assert measure(episode([segment(4, ("answer", 10, 14))], correct=0.0)) == {
        "accuracy_without_summary": (0.0, 1.0), "summaries": (0.0, 1.0), "summary_share": (0.0, 4.0),
    }  # fmt: skip


def test_a_window_that_takes_no_summaries_says_nothing() -> None:
    made = episode([segment(4, ("answer", 10, 14))], correct=1.0)
    made.window["policy"] = "none"
    assert measure(made) == {}
