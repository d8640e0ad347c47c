import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.envs.protocol import (
    Codec,
    Mode,
    ParsedTurn,
    SectionKind,
    TurnParser,
    codec_for,
    parse_tokens,
    parse_turn,
)

JSON, WORDS = codec_for("json"), codec_for("words")
CODECS = [JSON, WORDS]
TURN = "<plan>\n1. look\n</plan>\n<think>hm</think>\n<answer> 42 </answer>\n"
FRAGMENTS = (
    *(f"<{slash}{name}>" for slash in ("", "/") for name in ("plan", "think", "tool_call", "summary", "answer")),
    *("<", ">", "<pl", "an>", "</", " ", "\n", "1. go", "2. on (after 1)", '{"name": "f", "arguments": {}}', "f a | b"),
    *("\x00", "\ud800", "🎈", "\u2028", "\x1c", "\xa0", "x" * 30),
)
any_turn = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3))).map("".join))


def split(text: str, seed: int) -> list[str]:
    """`text` in random pieces, some of them empty."""
    rng = random.Random(seed)
    cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(2 * len(text) + 2)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def streamed(pieces: list[str], codec: Codec, mode: Mode = Mode.PLAN) -> ParsedTurn:
    parser = TurnParser(codec, mode)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def test_reads_the_parts_of_a_turn() -> None:
    turn = parse_turn(TURN, JSON)
    assert turn.error is None
    assert [s.kind for s in turn.sections] == [SectionKind.PLAN, SectionKind.THINK, SectionKind.ANSWER]
    assert [TURN[s.start : s.end] for s in turn.sections] == [
        "<plan>\n1. look\n</plan>",
        "<think>hm</think>",
        "<answer> 42 </answer>",
    ]
    assert turn.answer == "42"
    assert turn.sections[1].text == "hm"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "missing_act", "expected <plan>, found the end of the turn"),
        ("hello <plan>", "unexpected_text", "expected <plan>, found 'hello <plan>'"),
        ("<answer>42</answer>", "unexpected_section", "expected <plan>, found <answer>"),
        ("<plan>1. a</plan>", "missing_act", "expected <think>, <tool_call>, <summary> or <answer>, found the end"),
        ("<plan>1. a</plan><plan>1. a</plan>", "unexpected_section", "found <plan>"),
        ("<plan>1. a", "unclosed_section", "expected </plan>, found the end of the turn"),
        ("<plan>1. a</plan><think>x</think> y", "unexpected_text", "found 'y'"),
        ("<plan>1. a</plan><answer>x</answer> y", "unexpected_text", "expected the end of the turn, found 'y'"),
        ("<plan>1. a</plan><answer>x</answer><answer>y</answer>", "unexpected_section", "expected the end of the turn"),
        ("<plan>1. a</plan><tool_call>{}</tool_call>", "bad_call", "a JSON object"),
        ("<plan>1. a</plan><ans", "unexpected_text", "found '<ans'"),
        ("<plan>1. a</plan></plan>", "unexpected_text", "found '</plan>'"),
        ("<plan></plan><answer>x</answer>", "bad_plan", "at least one numbered step"),
    ],
)
def test_says_what_was_expected_and_found(text: str, kind: str, message: str) -> None:
    error = parse_turn(text, JSON).error
    assert error is not None
    assert error.kind == kind
    assert message in error.message()


@pytest.mark.parametrize(
    ("mode", "plan_due", "opens_with"),
    [
        (Mode.PLAN, True, {"plan"}),
        (Mode.PLAN, False, {"plan", "think", "answer"}),
        (Mode.THINK, True, {"plan", "think", "answer"}),
        (Mode.THINK, False, {"plan", "think", "answer"}),
        (Mode.BARE, True, {"answer"}),
        (Mode.BARE, False, {"answer"}),
    ],
)
def test_the_mode_says_how_a_turn_opens(mode: Mode, plan_due: bool, opens_with: set[str]) -> None:
    turns = {"plan": "<plan>1. a</plan>", "think": "<think>a</think>", "answer": ""}
    allowed = {
        name
        for name, opening in turns.items()
        if parse_turn(f"{opening}<answer>x</answer>", JSON, mode, plan_due).error is None
    }
    assert allowed == opens_with


def test_text_between_markers_may_look_like_other_markers() -> None:
    turn = parse_turn("<plan>1. a</plan><think>use <answer> or </plan><</think><answer>x</answer>", JSON)
    assert turn.error is None
    assert turn.sections[1].text == "use <answer> or </plan><"


def test_sections_are_reported_when_their_last_token_comes() -> None:
    parser = TurnParser(JSON)
    reported = [
        [str(s.kind) for s in parser.feed(piece)] for piece in ["<pl", "an>1. a", "</plan", "><answer>x</answer>"]
    ]
    assert reported == [[], [], [], ["plan", "answer"]]


def test_token_spans_cover_the_markers() -> None:
    pieces = ["<plan>", "\n1", ". a", "\n</", "plan", ">\n", "<answer>", " 4", "2", "</answer>"]
    turn = streamed(pieces, JSON)
    assert [(s.token_start, s.token_end) for s in turn.sections] == [(0, 6), (6, 10)]


def test_a_token_belongs_to_the_section_in_which_it_begins() -> None:
    turn = streamed(["<plan>1. a</plan", "><answer>", "x</answer>"], JSON)
    assert [(s.token_start, s.token_end) for s in turn.sections] == [(0, 2), (2, 3)]
    turn = streamed(["<plan> 1. a </plan>", " <answer>", " x", " </answer>"], JSON)
    assert [(s.token_start, s.token_end) for s in turn.sections] == [(0, 1), (1, 4)]


@given(any_turn, st.integers(0, 2**32), st.sampled_from(CODECS), st.sampled_from(list(Mode)))
def test_streaming_equals_parsing_at_once(text: str, seed: int, codec: Codec, mode: Mode) -> None:
    pieces = split(text, seed)
    tokens = parse_tokens(pieces, codec, mode)
    assert streamed(pieces, codec, mode) == tokens
    once = parse_turn(text, codec, mode)
    assert (once.text, once.plan, once.calls, once.answer, once.summary, once.error) == (
        (tokens.text, tokens.plan, tokens.calls, tokens.answer, tokens.summary, tokens.error)
    )
    assert [(s.kind, s.text, s.start, s.end) for s in once.sections] == (
        [(s.kind, s.text, s.start, s.end) for s in tokens.sections]
    )


@given(any_turn, st.sampled_from(CODECS), st.sampled_from(list(Mode)), st.booleans())
def test_any_text_is_a_turn_or_a_format_error(text: str, codec: Codec, mode: Mode, plan_due: bool) -> None:
    turn = parse_turn(text, codec, mode, plan_due)
    if turn.error is None:
        assert (turn.answer is not None) + (turn.summary is not None) + bool(turn.calls) == 1
    else:
        message = turn.error.message()
        assert message.isprintable() and len(message) < 500
        assert 0 <= turn.error.position <= len(text)


@given(any_turn, st.integers(0, 2**32))
def test_token_spans_are_in_order_and_within_the_turn(text: str, seed: int) -> None:
    pieces = split(text, seed)
    at = 0
    for section in parse_tokens(pieces, JSON, Mode.THINK).sections:
        assert at <= section.token_start <= section.token_end <= len(pieces)
        at = section.token_end


@pytest.mark.parametrize("shape", ["<plan>1. a</plan>" + "<tool_call>f</tool_call>" * 20_000, "<" * 200_000])
def test_long_turns_do_not_take_quadratic_time(shape: str) -> None:
    assert parse_turn(shape, WORDS).text == shape  # takes minutes when every section copies the rest of the turn
