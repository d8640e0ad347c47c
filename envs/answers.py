"""Exact match and F1 between a short answer and the accepted ones, as SQuAD defines them.

Source: Rajpurkar, Zhang, Lopyrev and Liang, "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (EMNLP 2016),
and its official `evaluate-v1.1.py`: text is lower-cased, loses ASCII punctuation, then the words a, an and the, then
surplus white space. HotpotQA and MuSiQue score with the same normalisation.

One deliberate difference: an accepted answer that the normalisation would empty (the blood group "A", the band "The
The", "+") is compared by its lower-cased words as they stand, because otherwise an empty prediction would be right.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """`text` in lower case without ASCII punctuation, articles and surplus white space; linear in its length."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str, aliases: Iterable[str] = ()) -> float:
    """1.0 if the normalised `prediction` equals `answer` or one of `aliases`, else 0.0."""
    return max(float(_tokens(prediction, gold) == _gold_tokens(gold)) for gold in (answer, *aliases))


def f1_score(prediction: str, answer: str, aliases: Iterable[str] = ()) -> float:
    """The best F1 over words (as a multiset) between the normalised `prediction` and `answer` or one of `aliases`."""
    return max(_f1(_tokens(prediction, gold), _gold_tokens(gold)) for gold in (answer, *aliases))


@lru_cache(maxsize=4096)
def _gold_tokens(gold: str) -> tuple[str, ...]:
    """The words an accepted answer is compared by: never empty unless `gold` is blank."""
    return tuple(normalize_answer(gold).split() or gold.lower().split())


@lru_cache(maxsize=4096)
def _normalises_to_nothing(gold: str) -> bool:
    return not normalize_answer(gold)


def _tokens(prediction: str, gold: str) -> tuple[str, ...]:
    """The words of `prediction`, made the same way as those of `gold`."""
    if _normalises_to_nothing(gold):
        return tuple(prediction.lower().split())
    return tuple(normalize_answer(prediction).split())


def _f1(predicted: tuple[str, ...], gold: tuple[str, ...]) -> float:
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if not shared:
        return float(predicted == gold)
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
