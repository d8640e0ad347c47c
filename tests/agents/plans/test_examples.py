from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.env_spec import EnvSpec
from forethought.agents.plans import PlanError, ReviewBook, export_examples, script_drafts
from forethought.envs.json_schema import first_violation, published_validator
from forethought.envs.pointer.scripts import oracle
from forethought.envs.protocol import codec_for

Folder = Callable[..., Path]


def review(folder: Path, *decisions: tuple[int, str, str, str | None]) -> None:
    """Each: number of the plan, reviewer, decision, and a new text of the first step."""
    with ReviewBook(folder) as book:
        for number, who, decision, text in decisions:
            steps = [dict(step) for step in book.drafts[number].steps]
            steps[0]["text"] = text or steps[0]["text"]
            book.save(book.drafts[number].id, who, 0, decision, steps)


def export(folder: Path, **options: Any) -> list[dict[str, Any]]:
    out = folder / "out" / "set.jsonl"
    summary = export_examples(folder, out, **options)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == summary.written
    validator = published_validator("plan-example", "forethought.agents")
    assert all(first_violation(validator, row) is None for row in rows)
    return rows


def test_accepted_plans_are_written_as_prompt_and_completion(drafts: Folder) -> None:
    folder = drafts(3)
    review(folder, (0, "Ada", "accept", "Find the size of A"), (1, "Ada", "open", None), (2, "Ada", "reject", None))
    (row,) = export(folder)
    assert row["prompt"] == [{"role": "user", "content": "Which is larger in q0?"}]
    assert row["completion"] == [
        {
            "role": "assistant",
            "content": "<plan>\n1. Find the size of A\n2. Find B\n3. Compare #1 with #2 (after 1, 2)\n</plan>",
        }
    ]
    assert (row["edited"], row["accepted_by"], row["whole_turn"]) == (True, ["Ada"], False)
    assert row["provenance"]["author"] == "someone" and row["provenance"]["original"] == "A and B"
    (words,) = export(folder, spelling="words")
    plan = codec_for("words").read_plan(
        words["completion"][0]["content"].removeprefix("<plan>").removesuffix("</plan>")
    )
    assert [step.after for step in plan.steps] == [(), (), (1, 2)]


def test_so_many_reviewers_must_accept_and_none_reject(drafts: Folder) -> None:
    folder = drafts(3)
    review(
        folder,
        (0, "Ada", "accept", None), (0, "Grace", "accept", None),
        (1, "Ada", "accept", None), (1, "Grace", "reject", None),
        (2, "Ada", "accept", None),
    )  # fmt: skip
    assert [row["task_id"] for row in export(folder)] == ["q0", "q2"]
    assert [row["task_id"] for row in export(folder, accepted=2)] == ["q0"]
    assert [row["task_id"] for row in export(folder, rejected=1)] == ["q0", "q1", "q2"]
    before = (folder / "out" / "set.jsonl").read_bytes()
    with pytest.raises(PlanError, match="accepted by fewer than 3"):
        export(folder, accepted=3)
    assert (folder / "out" / "set.jsonl").read_bytes() == before


def test_the_version_that_most_accepted_is_taken(drafts: Folder) -> None:
    folder = drafts(1)
    review(
        folder,
        (0, "Ada", "accept", "one"), (0, "Grace", "accept", "two"), (0, "Alan", "accept", "one"),
        (0, "Kurt", "accept", "x"),
    )  # fmt: skip
    (row,) = export(folder)
    assert "1. one" in row["completion"][0]["content"]
    assert row["agreed_by"] == ["Ada", "Alan"] and len(row["accepted_by"]) == 4


def test_an_unchanged_plan_of_a_policy_keeps_its_whole_turn(drafts: Folder) -> None:
    made = script_drafts("m:oracle", oracle, EnvSpec(id="forethought/Pointer-v0"), tasks=2, seed=0, skipped=print)
    folder = drafts(0, *made)
    review(folder, (0, "Ada", "accept", None), (1, "Ada", "accept", "follow 1"))
    kept, changed = export(folder, spelling="words")
    assert kept["whole_turn"] and kept["completion"][0]["content"] == kept["provenance"]["original"]
    assert not changed["whole_turn"] and changed["completion"][0]["content"].endswith("</plan>")
    assert not export(folder, spelling="json")[0]["whole_turn"]


def test_nothing_to_export_says_why(drafts: Folder) -> None:
    with pytest.raises(PlanError, match="3 not reviewed"):
        export(drafts(3))


def test_trl_takes_the_set_as_conversations(drafts: Folder) -> None:
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    folder = drafts(2)
    review(folder, (0, "Ada", "accept", None), (1, "Ada", "accept", "changed"))
    rows = datasets.Dataset.from_list(export(folder))
    assert data_utils.is_conversational(rows[0]) and len(rows) == 2
    assert rows[1]["completion"][0]["content"].startswith("<plan>\n1. changed")
