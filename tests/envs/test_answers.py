"""Exact match and F1 agree with SQuAD's definition, and cannot be had for nothing."""

import re
import string
import time
from collections import Counter

import pytest

from forethought.envs.answers import exact_match, f1_score, normalize_answer


def official_normalize(text: str) -> str:
    """`normalize_answer` of evaluate-v1.1.py, step by step."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(prediction: str, gold: str) -> float:
    """`f1_score` of evaluate-v1.1.py."""
    predicted, wanted = official_normalize(prediction).split(), official_normalize(gold).split()
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


SAMPLES = [
    "The Cat, sat.", "cat sat", "a an the", "G. Stanley Hall", "Stanley Hall", "U.S.A.", "usa", "Zürich", "1,000",
    "1000", "an apple a day", "Apple day", "", "  ", "don't", "dont", "there", "the-there", "日本", "x" * 50,
]  # fmt: skip


@pytest.mark.parametrize("gold", [sample for sample in SAMPLES if official_normalize(sample)])
@pytest.mark.parametrize("prediction", SAMPLES)
def test_agrees_with_the_official_script(prediction: str, gold: str) -> None:
    assert normalize_answer(prediction) == official_normalize(prediction)
    assert exact_match(prediction, gold) == float(official_normalize(prediction) == official_normalize(gold))
    assert f1_score(prediction, gold) == pytest.approx(official_f1(prediction, gold))


def test_takes_the_best_of_the_aliases() -> None:
    assert exact_match("stanley hall", "G. Stanley Hall", ["Stanley Hall"]) == 1.0
    assert exact_match("stanley hall", "G. Stanley Hall") == 0.0
    assert f1_score("stanley hall", "G. Stanley Hall") == pytest.approx(0.8)
    assert f1_score("stanley hall", "no", ["G. Stanley Hall", "Hall"]) == pytest.approx(0.8)


def test_partial_f1_counts_repeated_words_once_each() -> None:
    assert f1_score("Paris Paris Paris", "Paris") == pytest.approx(0.5)


@pytest.mark.parametrize("gold", ["A", "The The", "+", "..."])
def test_an_answer_that_normalises_to_nothing_still_has_to_be_given(gold: str) -> None:
    for empty in ("", " ", "an", "?!"):
        assert exact_match(empty, gold) == f1_score(empty, gold) == 0.0
    assert exact_match(gold.lower(), gold) == f1_score(gold, gold) == 1.0


def test_a_megabyte_of_prediction_is_scored_quickly() -> None:
    start = time.perf_counter()
    assert f1_score("the word, " * 100_000, "word") < 0.01
    assert time.perf_counter() - start < 2
