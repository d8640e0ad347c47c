"""Parallel compute at test time: many attempts at one task, of which one is chosen.

Every attempt is an ordinary episode of an ordinary evaluation. A strategy is a pure function of the episodes of a task,
so one run gives the curves of all strategies for every smaller number of attempts, with no more sampling.
"""

from .attempts import Choice, Spent, solve_in_parallel
from .card import ParallelCard, ParallelLevel, grade_parallel
from .confidence import answer_logprob, episode_logprob
from .diverse_plans import evaluate_diverse_plans, plan_costs
from .errors import ParallelError
from .judge import judge_episodes
from .strategies import STRATEGIES, BestOf, MajorityVote, Strategy
from .verifiers import call_passed, is_right

__all__ = [
    "STRATEGIES",
    "BestOf",
    "Choice",
    "MajorityVote",
    "ParallelCard",
    "ParallelError",
    "ParallelLevel",
    "Spent",
    "Strategy",
    "answer_logprob",
    "call_passed",
    "episode_logprob",
    "evaluate_diverse_plans",
    "grade_parallel",
    "is_right",
    "judge_episodes",
    "plan_costs",
    "solve_in_parallel",
]
