"""Reviewed plans as a training set for TRL's `SFTTrainer`: conversational prompt and completion."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...envs.json_schema import first_violation, published_validator
from ...envs.protocol import Spelling, codec_for, parse_turn
from .drafts import PlanDraft, read_drafts
from .errors import PlanError
from .policies import first_plan
from .reviews import Decision, Review, read_reviews
from .steps import find_problems, plan_to_rows, rows_to_steps


@dataclass(slots=True, kw_only=True)
class ExportSummary:
    """What came of an export."""

    written: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Plans by the reason for which they are not in the set."""
    problems: list[str] = field(default_factory=list)
    """Damaged lines of the folder."""

    def leave_out(self, reason: str) -> None:
        """Count a plan that is not in the set."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def export_examples(
    folder: str | Path,
    out: str | Path,
    *,
    accepted: int = 1,
    rejected: int = 0,
    spelling: Spelling | str = Spelling.JSON,
) -> ExportSummary:
    """Write the accepted plans of a folder, one row of the published schema `plan-example` a line.

    A plan that was accepted in several versions is written in the one that most reviewers accepted, the latest of them.
    Half a file is never seen: it appears when it is whole.

    Args:
        folder: The drafts and reviews.
        out: The file.
        accepted: Reviewers who must have accepted a plan.
        rejected: Reviewers who may have rejected it.
        spelling: In which the plan is written.

    Raises:
        PlanError: there are no plans, or none that these numbers let through.
    """
    drafts, problems = read_drafts(folder)
    reviews, damaged = read_reviews(folder)
    summary = ExportSummary(problems=[*problems, *damaged])
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    validator = published_validator("plan-example", "forethought.agents")
    with partial.open("w", encoding="ascii") as file:
        for row in _rows(drafts, reviews, accepted, rejected, Spelling(spelling), summary):
            violation = first_violation(validator, row)
            assert violation is None, violation
            file.write(json.dumps(row) + "\n")
            summary.written += 1
        file.flush()
        os.fsync(file.fileno())
    if not summary.written:
        partial.unlink()
        reasons = "; ".join(f"{count} {reason}" for reason, count in summary.left_out.items())
        raise PlanError(f"no plan of {folder} can be exported ({reasons}): review more, or ask for fewer reviewers")
    os.replace(partial, out)
    return summary


def _rows(
    drafts: list[PlanDraft],
    reviews: Mapping[str, Mapping[str, Review]],
    accepted: int,
    rejected: int,
    spelling: Spelling,
    summary: ExportSummary,
) -> Iterator[dict[str, Any]]:
    for draft in drafts:
        of_plan = reviews.get(draft.id, {}).values()
        yes = [review for review in of_plan if review.decision is Decision.ACCEPT]
        no = sorted(review.reviewer for review in of_plan if review.decision is Decision.REJECT)
        if not yes and not no:
            summary.leave_out("not reviewed")
        elif len(no) > rejected:
            summary.leave_out("rejected")
        elif len(yes) < accepted:
            summary.leave_out(f"accepted by fewer than {accepted}")
        else:
            chosen, agreed = _choose(yes)
            problems = find_problems(chosen.steps, spelling)
            if problems:
                summary.leave_out(f"that the spelling {spelling} cannot hold")
            else:
                yield _row(draft, chosen, agreed, sorted(review.reviewer for review in yes), no, spelling)


def _choose(accepted: list[Review]) -> tuple[Review, list[str]]:
    """The version that most reviewers accepted, the latest of those, and who accepted it."""
    versions: dict[str, list[Review]] = {}
    for review in sorted(accepted, key=lambda review: review.time):
        versions.setdefault(json.dumps(review.steps, sort_keys=True), []).append(review)
    same = max(versions.values(), key=lambda reviews: (len(reviews), reviews[-1].time))
    return same[-1], sorted(review.reviewer for review in same)


def _row(
    draft: PlanDraft, chosen: Review, agreed: list[str], yes: list[str], no: list[str], spelling: Spelling
) -> dict[str, Any]:
    codec = codec_for(spelling)
    provenance = draft.provenance
    drafted = first_plan(provenance.original, spelling) if provenance.spelling == spelling else None
    whole = (
        drafted is not None
        and _plain(plan_to_rows(drafted[0])) == _plain(chosen.steps)
        and parse_turn(provenance.original, codec).error is None
    )
    content = provenance.original.strip() if whole else codec.write_turn(plan=rows_to_steps(chosen.steps))
    return {
        "prompt": draft.messages,
        "completion": [{"role": "assistant", "content": content}],
        "plan_id": draft.id,
        "task_id": draft.task["id"],
        "spelling": str(spelling),
        "whole_turn": whole,
        "edited": _plain(draft.steps) != _plain(chosen.steps),
        "accepted_by": yes,
        "rejected_by": no,
        "agreed_by": agreed,
        "provenance": {
            "schema": "forethought/plan-example/1",
            "kind": str(provenance.kind),
            "source": provenance.source,
            "author": provenance.author,
            "made": provenance.made,
            "original": provenance.original,
            "notes": "; ".join(provenance.notes),
            "reviewed": chosen.time,
        },
    }


def _plain(steps: list[dict[str, Any]]) -> list[tuple[str, tuple[int, ...]]]:
    return [(" ".join(step["text"].split()), tuple(sorted(step["after"]))) for step in steps]
