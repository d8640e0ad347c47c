"""What reviewers made of the drafts: every state that was saved, and the queue of what is left to do.

FOLDER/reviews.jsonl holds one row of the published schema `plan-review` a line. It is a journal: each save appends what
the reviewer had then, nothing is ever changed or deleted, and the last line of a plan and reviewer is in force.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...envs.json_schema import first_violation, published_validator
from .agreement import Agreement, AgreementTable
from .drafts import PlanDraft, now, read_drafts
from .errors import PlanError
from .lines import LineWriter, read_lines
from .steps import are_steps, find_problems

SCHEMA = "forethought/plan-review/1"
_FIELDS = frozenset(
    ("schema", "plan", "reviewer", "revision", "time", "decision", "steps", "comment", "tab"),
)
_LEASE = 900.0
"""Seconds for which a plan counts as taken by a reviewer who has it on the screen."""


class Decision(StrEnum):
    """What a reviewer says about a plan."""

    OPEN = "open"
    """Nothing yet."""
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A plan as one reviewer has it."""

    plan: str
    reviewer: str
    revision: int
    """Counts what was saved of this plan by this reviewer; the first is 1."""
    time: str
    decision: Decision
    steps: list[dict[str, Any]]
    comment: str
    tab: str = ""
    """Names the page that saved it."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Review:
        """The review of a valid row."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**(fields | {"decision": Decision(row["decision"])}))

    def to_row(self) -> dict[str, Any]:
        """The row that `from_row` reads."""
        return {"schema": SCHEMA, **asdict(self)}


class ConflictError(RuntimeError):
    """What was to be saved was made from an older version than the one that is saved."""

    def __init__(self, current: Review) -> None:
        super().__init__("this plan was changed by the same reviewer elsewhere")
        self.current = current


class InvalidReviewError(ValueError):
    """What was to be saved cannot be; `problems` says why, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def reviews_path(folder: str | Path) -> Path:
    """The file of a folder's reviews."""
    return Path(folder) / "reviews.jsonl"


def read_reviews(folder: str | Path) -> tuple[dict[str, dict[str, Review]], list[str]]:
    """The reviews in force by plan and reviewer, and what is wrong with lines that hold none."""
    reviews: dict[str, dict[str, Review]] = defaultdict(dict)
    problems = []
    for _, row, problem in read_lines(reviews_path(folder), "plan-review", _is_sound):
        if row is None:
            problems.append(problem)
        else:
            reviews[row["plan"]][row["reviewer"]] = Review.from_row(row)
    return dict(reviews), problems


class ReviewBook:
    """A folder's drafts and reviews, in memory and in the journal. Every method may be called from any thread.

    Args:
        folder: The folder.
        wanted: How many reviewers every plan shall have.

    Raises:
        PlanError: there are no drafts, or another process has the folder open for review.
    """

    def __init__(self, folder: str | Path, wanted: int = 2) -> None:
        drafts, problems = read_drafts(folder)
        self.drafts = drafts
        self.wanted = wanted
        self._index = {draft.id: i for i, draft in enumerate(drafts)}
        self._lock = threading.RLock()
        self._writer = LineWriter(reviews_path(folder))
        self._reviews, damaged = read_reviews(folder)
        self.problems = [*problems, *damaged]
        """Lines of the two files that cannot be read; they are left as they are."""
        self._leases: dict[str, dict[str, float]] = defaultdict(dict)
        self._search = [f"{d.id}\n{d.task['prompt']}\n{d.provenance.source}".casefold() for d in drafts]
        self._decided: list[set[str]] = [set() for _ in drafts]
        self._by_reviewer: dict[str, dict[int, Decision]] = defaultdict(dict)
        """The decision on each plan that the reviewer saved, by the plan's place."""
        self._complete = 0
        self._agreement = Agreement()
        for plan in self._reviews:
            if plan in self._index:
                self._count(plan)

    def __enter__(self) -> ReviewBook:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal."""
        self._writer.close()

    def position(self, plan: str) -> int:
        """Place of a plan in the file.

        Raises:
            PlanError: there is no such plan.
        """
        found = self._index.get(plan)
        if found is None:
            raise PlanError(f"there is no plan with the id {plan!r}")
        return found

    def review(self, plan: str, reviewer: str) -> Review | None:
        """A plan as a reviewer has it; None when nothing was saved yet."""
        with self._lock:
            return self._reviews.get(plan, {}).get(reviewer)

    def open(self, plan: str, reviewer: str) -> tuple[PlanDraft, Review | None]:
        """A plan for a reviewer's screen: for a while the queue counts it as taken."""
        with self._lock:
            draft = self.drafts[self.position(plan)]
            self._leases[plan][reviewer] = time.monotonic()
            return draft, self.review(plan, reviewer)

    def save(
        self,
        plan: str,
        reviewer: str,
        revision: int,
        decision: str,
        steps: Sequence[Mapping[str, Any]],
        comment: str = "",
        tab: str = "",
    ) -> Review:
        """Save what a reviewer has; once this returns it is on the disk.

        Args:
            plan: The plan.
            reviewer: The reviewer's name.
            revision: The revision that it was made from; 0 for none.
            decision: A `Decision`.
            steps: The steps; those of a plan that is accepted must be a plan.
            comment: Anything.
            tab: Names the page. A page that never heard that its last save arrived may build on what it had before.

        Raises:
            ConflictError: another revision is in force by now; nothing was saved.
            InvalidReviewError: the steps are no plan, or something has the wrong type; nothing was saved.
            PlanError: there is no such plan.
            OSError: the disk is full or gone.
        """
        with self._lock:
            self.position(plan)
            current = self._reviews.get(plan, {}).get(reviewer)
            known = current.revision if current else 0
            unheard = current is not None and bool(tab) and current.tab == tab and revision == known - 1
            row = {
                "schema": SCHEMA,
                "plan": plan,
                "reviewer": reviewer,
                "revision": known + 1,
                "time": now(),
                "decision": decision,
                "steps": steps,
                "comment": comment,
                "tab": tab,
            }
            _check(row)
            if revision != known and not unheard:
                raise ConflictError(current or self._unsaved(plan, reviewer))
            self._writer.append(row)
            review = Review.from_row(row)
            self._reviews.setdefault(plan, {})[reviewer] = review
            self._leases[plan][reviewer] = time.monotonic()
            self._count(plan)
            return review

    def next_plan(self, reviewer: str, after: str | None = None) -> str | None:
        """The next plan that wants this reviewer, from the one behind `after` on; None when there is none left."""
        with self._lock:
            start = 0 if after is None else self.position(after) + 1
            count = len(self.drafts)
            since = time.monotonic() - _LEASE
            for offset in range(count):
                place = (start + offset) % count
                decided = self._decided[place]
                if reviewer in decided or len(decided) >= self.wanted:
                    continue
                plan = self.drafts[place].id
                if plan == after:
                    continue
                leases = self._leases.get(plan, {})
                others = sum(t > since for name, t in leases.items() if name != reviewer and name not in decided)
                if len(decided) + others < self.wanted:
                    return plan
            return None

    def progress(self, reviewer: str) -> dict[str, int]:
        """How many plans there are, how many have all their reviews, and how many this reviewer has decided."""
        with self._lock:
            mine = sum(d is not Decision.OPEN for d in self._by_reviewer.get(reviewer, {}).values())
            return {"plans": len(self.drafts), "complete": self._complete, "mine": mine, "wanted": self.wanted}

    def find(
        self, reviewer: str, words: str = "", state: str = "", start: int = 0, count: int = 50
    ) -> tuple[list[tuple[PlanDraft, int, Decision | None]], int]:
        """Plans that hold `words` and are in `state` for a reviewer.

        Args:
            reviewer: Whose decisions.
            words: Text of the task, the id or the source, in any case.
            state: A `Decision`, `todo` (not decided by this reviewer) or "" for all.
            start: How many to leave out.
            count: Most plans.

        Returns:
            Each plan with the number of its reviewers and this one's decision, and how many there are in all.
        """
        needle = words.casefold()
        with self._lock:
            places = [i for i, text in enumerate(self._search) if needle in text] if needle else range(len(self.drafts))
            mine = self._by_reviewer.get(reviewer, {})
            if state == "todo":
                places = [i for i in places if mine.get(i, Decision.OPEN) is Decision.OPEN]
            elif state:
                places = [i for i in places if mine.get(i) == state]
            rows = [(self.drafts[i], len(self._decided[i]), mine.get(i)) for i in places[start : start + count]]
            return rows, len(places)

    def agreement(self) -> AgreementTable:
        """How far the reviewers agree."""
        with self._lock:
            return self._agreement.table()

    def _count(self, plan: str) -> None:
        """Take a plan's reviews into the totals."""
        place = self._index[plan]
        reviews = self._reviews[plan]
        decided = {name for name, review in reviews.items() if review.decision is not Decision.OPEN}
        self._complete += (len(decided) >= self.wanted) - (len(self._decided[place]) >= self.wanted)
        self._decided[place] = decided
        for name, review in reviews.items():
            self._by_reviewer[name][place] = review.decision
        draft = self.drafts[place]
        final = [reviews[name] for name in sorted(decided)]
        self._agreement.update(
            plan, draft.provenance.kind, draft.steps, [(r.reviewer, r.decision == "accept", r.steps) for r in final]
        )

    def _unsaved(self, plan: str, reviewer: str) -> Review:
        """The draft as a review that was never saved, for a page that knows a revision that the journal does not."""
        steps = self.drafts[self.position(plan)].steps
        return Review(
            plan=plan, reviewer=reviewer, revision=0, time=now(), decision=Decision.OPEN, steps=steps, comment=""
        )


def _is_sound(row: dict[str, Any]) -> bool:
    """Whether a row plainly is a review."""
    return (
        row.keys() == _FIELDS
        and all(type(row[name]) is str for name in ("plan", "reviewer", "time", "comment", "tab"))
        and row["plan"] != ""
        and 0 < len(row["reviewer"]) <= 80
        and len(row["comment"]) <= 20_000
        and len(row["tab"]) <= 64
        and type(row["revision"]) is int
        and row["revision"] >= 1
        and row["decision"] in ("open", "accept", "reject")
        and are_steps(row["steps"])
        and all(len(step["text"]) <= 10_000 and len(step["after"]) <= 100 for step in row["steps"])
    )


def _check(row: dict[str, Any]) -> None:
    violation = first_violation(published_validator("plan-review", "forethought.agents"), row)
    problems = [violation] if violation else []
    if not problems and row["decision"] == Decision.ACCEPT:
        problems = find_problems(row["steps"])
    if problems:
        raise InvalidReviewError(problems)
