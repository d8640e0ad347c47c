"""The rows of the table of runs, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..evaluation import Estimate, ReportCard
from ..evaluation.traits import MEANINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row."""

    group: str
    label: str
    meaning: str
    pick: Callable[[ReportCard], Estimate]
    percent: bool = False


def metrics_of(cards: Iterable[ReportCard]) -> Iterator[Metric]:
    """The rows that say something about at least one of the cards."""
    cards = list(cards)
    ks = sorted({k for card in cards for k in card.pass_at if k > 1})
    names = {(trait, name): None for card in cards for trait, metrics in card.traits.items() for name in metrics}
    traits = [_trait(*name) for name in names]
    # A trait of which nothing shows (no calls, no sub-tasks, no summaries) is not a row of zeros.
    shown = {m.group for m in traits if any(m.pick(card).value for card in cards)}
    traits = [metric for metric in traits if metric.group in shown]
    for metric in (*_ACCURACY, *(m for k in ks for m in _passes(k)), *_CALIBRATION, *traits, *_BEHAVIOUR, *_COST):
        values = [metric.pick(card).value for card in cards]
        if any(value is not None and (value != 0 or metric in _KEPT_AT_ZERO or metric in traits) for value in values):
            yield metric


def format_value(estimate: Estimate, percent: bool = False) -> str:
    """The number alone."""
    return "\N{EN DASH}" if estimate.value is None else _number(estimate.value, percent) + ("\xa0%" if percent else "")


def format_interval(estimate: Estimate, percent: bool = False) -> str:
    """The interval alone, empty when there is none or it is as narrow as the number that is shown."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = _number(estimate.low, percent), _number(estimate.high, percent)
    return "" if low == high else f"{low} to {high}"


def format_number(value: float) -> str:
    """Three digits or so, thousands separated, no sign on zero."""
    size = abs(value)
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def format_p_value(value: float) -> str:
    """`p = 0.03`, or `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.1f}" if percent else format_number(value)


def _passes(k: int) -> tuple[Metric, Metric]:
    return (
        Metric(
            group="Skills",
            label=f"pass@{k}",
            meaning=f"At least one of {k} attempts is right (unbiased, Chen et al. 2021).",
            pick=lambda card: card.pass_at.get(k, Estimate()),
            percent=True,
        ),
        Metric(
            group="Skills",
            label=f"pass^{k}",
            meaning=f"All of {k} attempts are right (unbiased, tau-bench).",
            pick=lambda card: card.pass_hat.get(k, Estimate()),
            percent=True,
        ),
    )


def _trait(trait: str, name: str) -> Metric:
    label = name.replace("_", " ").capitalize()
    return Metric(
        group=trait.capitalize(),
        label=label,
        meaning=MEANINGS.get((trait, name), label),
        pick=lambda card: card.traits.get(trait, {}).get(name, Estimate()),
    )


def _tokens(kind: str, label: str, meaning: str) -> Metric:
    return Metric(group="Cost", label=label, meaning=meaning, pick=lambda card: card.tokens.get(kind, Estimate()))


_ACCURACY = (
    Metric(
        group="Skills",
        label="Accuracy (pass@1)",
        meaning="Share of attempts that are right, mean over tasks.",
        pick=lambda card: card.accuracy,
        percent=True,
    ),
)
_CALIBRATION = (
    Metric(
        group="Calibration",
        label="Spearman, tokens and difficulty",
        meaning="Rank correlation of sampled tokens and known difficulty, over episodes. 1: harder is always longer.",
        pick=lambda card: card.calibration.spearman_difficulty,
    ),
    Metric(
        group="Calibration",
        label="Spearman, tokens and failure rate",
        meaning="Rank correlation of sampled tokens and 1 - pass rate of the task: the run's own unless a reference "
        "model's was given; a run's own failures depend on its tokens too.",
        pick=lambda card: card.calibration.spearman_failure,
    ),
    Metric(
        group="Calibration",
        label="Tokens per unit of difficulty",
        meaning="Slope of the least-squares line of sampled tokens over difficulty.",
        pick=lambda card: card.calibration.slope,
    ),
    Metric(
        group="Calibration",
        label="Share of variance explained",
        meaning="R squared of that line.",
        pick=lambda card: card.calibration.r_squared,
    ),
    Metric(
        group="Calibration",
        label="Overthinking on easy tasks",
        meaning="Think tokens over those needed, max(difficulty, 1), on tasks of difficulty 1 or less. 1 is what the "
        "task needs.",
        pick=lambda card: card.calibration.think_over_ratio,
    ),
    Metric(
        group="Calibration",
        label="Overspending on easy tasks",
        meaning="Sampled tokens over those that the oracle spends at that difficulty (without an oracle: over the "
        "fewest of any right episode), on tasks of difficulty 1 or less.",
        pick=lambda card: card.calibration.over_ratio,
    ),
)
_BEHAVIOUR = (
    Metric(
        group="Behaviour",
        label="Finish rate",
        meaning="Share of episodes that the policy ended itself, within its budgets.",
        pick=lambda card: card.finish_rate,
        percent=True,
    ),
    Metric(
        group="Behaviour",
        label="Format errors",
        meaning="Share of turns that break the grammar.",
        pick=lambda card: card.format_error_rate,
        percent=True,
    ),
    Metric(
        group="Behaviour",
        label="Plan versions",
        meaning="Plans per episode; more than 1 means that it was re-planned.",
        pick=lambda card: card.plan_versions,
    ),
    Metric(group="Behaviour", label="Tool calls", meaning="Tool calls per episode.", pick=lambda card: card.tool_calls),
    Metric(
        group="Behaviour",
        label="Failed calls",
        meaning="Failed tool calls per episode.",
        pick=lambda card: card.failed_calls,
    ),
    Metric(
        group="Behaviour",
        label="Repeated failures",
        meaning="Share of failed calls that had already failed, with the same arguments, in the same episode.",
        pick=lambda card: card.repeated_failure_rate,
        percent=True,
    ),
)
_COST = (
    _tokens("sampled", "Sampled tokens", "Tokens that the policy sampled, per episode."),
    _tokens("plan", "in plans", "Sampled tokens in plan sections, markers included."),
    _tokens("think", "in thoughts", "Sampled tokens in think sections, markers included."),
    _tokens("call", "in tool calls", "Sampled tokens in tool calls, markers included."),
    _tokens("summary", "in summaries", "Sampled tokens in summaries, markers included."),
    _tokens("answer", "in answers", "Sampled tokens in answers, markers included."),
    _tokens("other", "elsewhere", "Sampled tokens in no whole section: ends of turns, broken turns."),
    _tokens("context", "Context tokens", "Tokens read and sampled, summed over turns, per episode."),
    Metric(
        group="Cost",
        label="Seconds",
        meaning="Wall time of an episode, waiting for the engine included: it depends on the machine.",
        pick=lambda card: card.seconds,
    ),
)
_KEPT_AT_ZERO = (*_ACCURACY, *_CALIBRATION, *_BEHAVIOUR[:2])
