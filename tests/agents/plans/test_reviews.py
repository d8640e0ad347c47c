from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.plans import (
    ConflictError,
    InvalidReviewError,
    PlanError,
    ReviewBook,
    read_drafts,
    read_reviews,
    write_drafts,
)
from forethought.envs.json_schema import first_violation, published_validator

from .conftest import make_draft

Folder = Callable[..., Path]


def save(book: ReviewBook, plan: str, who: str, decision: str = "accept", revision: int = 0, **more: Any) -> int:
    steps = more.pop("steps", book.drafts[book.position(plan)].steps)
    return book.save(plan, who, revision, decision, steps, **more).revision


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "reviews.jsonl").read_text().splitlines()]


def test_every_state_that_was_saved_stays_in_the_journal(drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewBook(folder) as book:
        plan = book.drafts[0].id
        for revision, comment in enumerate(["a", "b\ud800\x1b[2J", "c"]):
            assert save(book, plan, "Ada", "open", revision, comment=comment) == revision + 1
    assert [row["comment"] for row in lines(folder)] == ["a", "b\ud800\x1b[2J", "c"]
    validator = published_validator("plan-review", "forethought.agents")
    assert all(first_violation(validator, row) is None for row in lines(folder))
    with ReviewBook(folder) as book:
        review = book.review(plan, "Ada")
        assert review is not None and (review.revision, review.comment) == (3, "c")


def test_a_stale_page_overwrites_nothing(drafts: Folder) -> None:
    with ReviewBook(drafts(1)) as book:
        plan = book.drafts[0].id
        save(book, plan, "Ada", comment="first", tab="1")
        with pytest.raises(ConflictError) as conflict:
            save(book, plan, "Ada", "reject", comment="second", tab="2")
        assert conflict.value.current.comment == "first"
        save(book, plan, "Grace", "reject", comment="hers")
        mine = book.review(plan, "Ada")
        assert mine is not None and (mine.decision, mine.comment) == ("accept", "first")


def test_a_page_that_never_heard_of_its_last_save_goes_on(drafts: Folder) -> None:
    with ReviewBook(drafts(1)) as book:
        plan = book.drafts[0].id
        assert save(book, plan, "Ada", comment="first", tab="1") == 1
        assert save(book, plan, "Ada", comment="first and more", tab="1") == 2
        with pytest.raises(ConflictError):
            save(book, plan, "Ada", tab="1")


def test_only_a_plan_can_be_accepted(drafts: Folder) -> None:
    with ReviewBook(drafts(1)) as book:
        plan = book.drafts[0].id
        empty = [{"number": 1, "text": " ", "after": []}]
        with pytest.raises(InvalidReviewError, match="Step 1 is empty"):
            save(book, plan, "Ada", steps=empty)
        save(book, plan, "Ada", "open", steps=empty)
        with pytest.raises(InvalidReviewError):
            book.save(plan, "Ada", 1, "perhaps", empty)
        with pytest.raises(InvalidReviewError):
            book.save(plan, "", 0, "open", empty)
        with pytest.raises(PlanError, match="no plan with the id"):
            book.save("nothing", "Ada", 0, "open", empty)


def test_the_queue_gives_every_plan_to_as_many_reviewers_as_are_wanted(drafts: Folder) -> None:
    with ReviewBook(drafts(7), wanted=2) as book:
        seen: dict[str, list[str]] = {}
        waiting = ["Ada", "Grace", "Alan"]
        while waiting:
            who = waiting.pop(0)
            plan = book.next_plan(who)
            if plan is not None:
                book.open(plan, who)
                save(book, plan, who)
                seen.setdefault(plan, []).append(who)
                waiting.append(who)
        assert len(seen) == 7 and all(len(set(names)) == 2 for names in seen.values())
        assert book.progress("Ada")["complete"] == 7


def test_a_plan_on_the_screen_of_others_is_not_given_out_once_more(drafts: Folder) -> None:
    with ReviewBook(drafts(2), wanted=1) as book:
        first, second = (draft.id for draft in book.drafts)
        book.open(first, "Ada")
        assert book.next_plan("Grace") == second
        assert book.next_plan("Ada") == first
        assert book.next_plan("Ada", after=first) == second
        save(book, first, "Ada")
        assert book.next_plan("Ada") == second
        save(book, first, "Ada", "open", 1)
        assert book.next_plan("Ada") == first and book.progress("Ada")["complete"] == 0


def test_plans_are_found(drafts: Folder) -> None:
    with ReviewBook(drafts(60)) as book:
        save(book, book.drafts[5].id, "Ada", "reject")
        assert [d.task["id"] for d, _, _ in book.find("Ada", "LARGER IN Q59")[0]] == ["q59"]
        assert [(d.task["id"], n, s) for d, n, s in book.find("Ada", state="reject")[0]] == [("q5", 1, "reject")]
        assert book.find("Grace", state="reject")[1] == 0
        assert book.find("Ada", state="todo")[1] == 59
        page, total = book.find("Ada", start=50)
        assert (len(page), total) == (10, 60)


@pytest.mark.parametrize("torn", [b'{"schema":"forethought/plan-rev', b"\xff\xfe", b"{"])
def test_what_a_killed_writer_left_of_a_line_is_cut(drafts: Folder, torn: bytes) -> None:
    folder = drafts(2)
    with ReviewBook(folder) as book:
        first, second = (draft.id for draft in book.drafts)
        save(book, first, "Ada")
    with (folder / "reviews.jsonl").open("ab") as file:
        file.write(torn)
    assert list(read_reviews(folder)[0]) == [first] and read_reviews(folder)[1] == []
    with ReviewBook(folder) as book:
        assert book.problems == []
        save(book, second, "Ada")
    assert [row["plan"] for row in lines(folder)] == [first, second]


def test_a_last_line_that_only_lacks_its_end_is_kept(drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewBook(folder) as book:
        plan = book.drafts[0].id
        save(book, plan, "Ada", comment="kept")
    path = folder / "reviews.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with ReviewBook(folder) as book:
        save(book, plan, "Ada", revision=1, comment="more")
    assert [row["comment"] for row in lines(folder)] == ["kept", "more"]


def test_damaged_lines_are_named_and_kept(drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewBook(folder) as book:
        plan = book.drafts[0].id
        save(book, plan, "Ada")
    path = folder / "reviews.jsonl"
    newer = json.dumps(lines(folder)[0] | {"schema": "forethought/plan-review/2"})
    text = "not json\n" + path.read_text() + newer + "\n"
    path.write_text(text)
    with ReviewBook(folder) as book:
        assert ["line 1" in book.problems[0], "plan-review/2" in book.problems[1]] == [True, True]
        assert book.review(plan, "Ada") is not None
    assert path.read_text() == text


def test_a_folder_has_one_server(drafts: Folder) -> None:
    import subprocess
    import sys

    folder = drafts(1)
    code = f"from forethought.agents.plans import ReviewBook; ReviewBook({str(folder)!r})"
    with ReviewBook(folder):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1 and "another process is writing to" in run.stderr


def test_drafts_are_not_written_twice(drafts: Folder) -> None:
    folder = drafts(2)
    assert write_drafts(folder, [make_draft("q1"), make_draft("q9"), make_draft("q9")]) == (1, 2)
    assert [draft.task["id"] for draft in read_drafts(folder)[0]] == ["q0", "q1", "q9"]


def test_a_folder_without_plans_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="forethought plans draft"):
        ReviewBook(tmp_path)


def test_many_threads_lose_nothing(drafts: Folder) -> None:
    folder = drafts(4)
    with ReviewBook(folder) as book:
        ids = [draft.id for draft in book.drafts]

        def work(who: str) -> None:
            for revision in range(5):
                for plan in ids:
                    save(book, plan, who, "open", revision, comment=f"{who} {revision}")

        threads = [threading.Thread(target=work, args=(f"R{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(lines(folder)) == 4 * 4 * 5
    reviews, problems = read_reviews(folder)
    assert problems == [] and all(reviews[p][f"R{i}"].comment == f"R{i} 4" for p in ids for i in range(4))
