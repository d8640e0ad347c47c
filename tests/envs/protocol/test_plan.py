import pytest

from forethought.envs.protocol import Mode, Plan, PlanStep, codec_for, parse_turn

JSON, WORDS = codec_for("json"), codec_for("words")


def plan_of(content: str, spelling: str = "json") -> Plan:
    turn = parse_turn(f"<plan>{content}</plan><answer>x</answer>", codec_for(spelling))
    assert turn.error is None, turn.error
    assert turn.plan is not None
    return turn.plan


def plan_error(content: str, spelling: str = "json") -> str:
    turn = parse_turn(f"<plan>{content}</plan><answer>x</answer>", codec_for(spelling))
    assert turn.error is not None
    assert turn.error.kind == "bad_plan"
    return turn.error.message()


@pytest.mark.parametrize("after", ["(after 1)", "( after 1 )", "(after  1)"])
def test_a_step_waits_for_an_earlier_one(after: str) -> None:
    assert plan_of(f"1. find the film\n2. find its director {after}").steps == (
        PlanStep(1, "find the film"),
        PlanStep(2, "find its director", (1,)),
    )


@pytest.mark.parametrize("after", ["(after 1, 2)", "(after 2,1)", "(after 1 and 2)", "(after 1 2)", "(after 2, 2, 1)"])
def test_a_step_waits_for_several(after: str) -> None:
    assert plan_of(f"1. a\n2. b\n3. c {after}").steps[2].after == (1, 2)


def test_words_separate_steps_by_their_numbers() -> None:
    assert plan_of("1. follow 7 2. answer ( after 1 )", "words").steps == (
        PlanStep(1, "follow 7"),
        PlanStep(2, "answer", (1,)),
    )


def test_parentheses_that_are_no_dependency_stay_text() -> None:
    assert plan_of("1. find the film (1975)\n2. go (after that)").steps == (
        PlanStep(1, "find the film (1975)"),
        PlanStep(2, "go (after that)"),
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "at least one numbered step"),
        ("find the film", "plan step '1. ...', found 'find the film'"),
        ("2. find", "plan step '1. ...'"),
        ("1. a\n1. b", "plan step '2. ...'"),
        ("1. a\n3. b", "plan step '2. ...'"),
        ("1.", "plan step '1. ...'"),
        ("1. a (after 1)", "step 1 to come after earlier steps only"),
        ("1. a (after 0)", "step 1 to come after earlier steps only"),
        ("1. a\n2. b (after 3)", "step 2 to come after earlier steps only, found 'after 3'"),
        ("\n".join(f"{i}. a" for i in range(1, 102)), "at most 100 steps, found 101"),
    ],
)
def test_says_what_is_wrong_with_a_plan(content: str, complaint: str) -> None:
    assert complaint in plan_error(content)


@pytest.mark.parametrize("content", ["", "follow", "2. follow", "1. a 3. b", "1. a ( after 2 )"])
def test_says_what_is_wrong_with_a_plan_in_words(content: str) -> None:
    assert "Format error" in plan_error(content, "words")


@pytest.mark.parametrize("spelling", ["json", "words"])
def test_a_hundred_steps_are_a_plan(spelling: str) -> None:
    codec = codec_for(spelling)
    written = codec.write_turn(plan=["go"] * 100, answer="x")
    turn = parse_turn(written, codec, Mode.PLAN)
    assert turn.plan is not None and len(turn.plan.steps) == 100
