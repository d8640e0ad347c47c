"""Fuzz the parser of the protocol, and measure its time per byte.

    python examples/benchmarks/protocol_fuzz.py --turns 1000000

Well-formed turns of both spellings and all modes are mutated, then parsed at once and as random tokens: no exception
may leave the parser, and both ways must give the same turn. The table shows nanoseconds per character (medians) for
turns of 1 kB to 1 MB; the last column must stay below 10.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from forethought.envs.protocol import (
    Call,
    Codec,
    Mode,
    PlanStep,
    Spelling,
    TurnParser,
    codec_for,
    parse_tokens,
    parse_turn,
)

NAMES = ("plan", "think", "tool_call", "summary", "answer", "tool_response")
FRAGMENTS = (
    *(f"<{slash}{name}>" for name in NAMES for slash in ("", "/")),
    *("<", ">", "</", "<pl", "<>", "\n", " ", "\t", "\x00", "\ud800", "\udfff", "🎈", "中", "\u2028", "\x1c", "\ufeff"),
    *(
        "1.",
        "2. b (after 1)",
        "( after 1 2 )",
        "(after",
        ")",
        "999.",
        "0.",
        "٣.",
        "|",
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
    ),
    *('{"name": "f"}', "NaN", "1e999", "-Infinity", "null", "true", "9" * 30, "[" * 70 + "]" * 70, '{"a":' * 200),
)
WORDS = ("find", "the", "film", "follow", "7", "E5", "R3", "naïve", "中文", "1975")


def well_formed(rng: random.Random, codec: Codec, mode: Mode) -> str:
    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 5)))

    def call() -> Call:
        step = rng.choice((None, 1, 2))
        if codec.spelling == Spelling.JSON:
            values: tuple[Any, ...] = (text(), 7, 0.5, None, True, [1, "a"], {"b": {}}, "</tool_call>")
            return Call(rng.choice(WORDS), {text(): rng.choice(values) for _ in range(rng.randint(0, 3))}, step)
        return Call(rng.choice(WORDS), tuple(text() for _ in range(rng.randint(0, 3))), step)

    plan = None
    if mode is not Mode.BARE and (mode is Mode.PLAN or rng.random() < 0.5):
        plan = [
            PlanStep(n, text(), (n - 1,) if n > 1 and rng.random() < 0.5 else ()) for n in range(1, rng.randint(2, 6))
        ]
    think = text() if mode is not Mode.BARE and rng.random() < 0.5 else None
    act = rng.random()
    if act < 0.5:
        return codec.write_turn(plan=plan, think=think, calls=[call() for _ in range(rng.randint(1, 3))])
    return codec.write_turn(plan=plan, think=think, **{"answer" if act < 0.8 else "summary": text()})  # type: ignore[arg-type]


def mutate(rng: random.Random, turn: str) -> str:
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        a, b = sorted((rng.randint(0, len(turn)), rng.randint(0, len(turn))))
        kind = rng.randrange(5)
        if kind == 0:
            turn = turn[:a] + rng.choice(FRAGMENTS) + turn[a:]
        elif kind == 1:
            turn = turn[:a] + turn[min(b, a + 12) :]
        elif kind == 2:
            turn = turn[:a]
        elif kind == 3:
            turn = turn[:b] + turn[a:b] + turn[b:]
        else:
            turn = turn[:a] + chr(rng.choice((rng.randrange(128), rng.randrange(0x11000)))) + turn[a + 1 :]
    return turn


def split(rng: random.Random, text: str) -> list[str]:
    cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def fuzz(turns: int, seed: int) -> int:
    rng = random.Random(seed)
    exceptions = disagreements = 0
    outcomes: Counter[str] = Counter()
    began = time.perf_counter()
    for _ in range(turns):
        codec, mode = codec_for(rng.choice(list(Spelling))), rng.choice(list(Mode))
        text = mutate(rng, well_formed(rng, codec, mode))
        try:
            once = parse_turn(text, codec, mode)
            pieces = split(rng, text)
            parser = TurnParser(codec, mode)
            for piece in pieces:
                parser.feed(piece)
            disagreements += parser.finish() != parse_tokens(pieces, codec, mode)
            if once.error is not None:
                once.error.message().encode()
            outcomes[once.error.kind if once.error else "well formed"] += 1
        except Exception:
            exceptions += 1
            if exceptions <= 3:
                print(repr(text))
                traceback.print_exc()
    seconds = time.perf_counter() - began
    print(f"{turns:,} turns in {seconds:.0f} s, exceptions {exceptions}, disagreements {disagreements}")
    for kind, count in outcomes.most_common():
        print(f"  {kind:20} {count:9,}")
    return exceptions + disagreements


def filled(before: str, unit: str, after: str, size: int) -> str:
    return before + unit * max(1, (size - len(before) - len(after)) // len(unit)) + after


PLAN = "<plan>1. go</plan>"
ACT = "</think><answer>x</answer>"
CALL = '<tool_call>{"name": "f", "arguments": {"x": "'
SHAPES: dict[str, Callable[[int], list[str]]] = {
    "long think": lambda n: [filled(PLAN + "<think>", "so it goes ", ACT, n)],
    "long think, character by character": lambda n: list(filled(PLAN + "<think>", "so it goes ", ACT, n)),
    "almost a marker": lambda n: [filled(PLAN + "<think>", "</thin", ACT, n)],
    "almost a marker, character by character": lambda n: list(filled(PLAN + "<think>", "</thin", ACT, n)),
    "many calls": lambda n: [filled(PLAN, '<tool_call>{"name": "f"}</tool_call>', "", n)],
    "many calls, character by character": lambda n: list(filled(PLAN, '<tool_call>{"name": "f"}</tool_call>', "", n)),
    "one large call": lambda n: [filled(PLAN + CALL, "a", '"}}</tool_call>', n)],
    "one deep call": lambda n: [filled(PLAN + "<tool_call>", "[", "</tool_call>", n)],
    "unclosed": lambda n: [filled(PLAN + "<think>", "more ", "", n)],
    "only <": lambda n: ["<" * n],
    "only <, character by character": lambda n: ["<"] * n,
    "white space": lambda n: [filled(PLAN, " ", "<answer>x</answer>", n)],
    "white space, character by character": lambda n: list(filled(PLAN, " ", "<answer>x</answer>", n)),
    "many plan steps": lambda n: [filled("<plan>", "1. go\n", "</plan><answer>x</answer>", n)],
    "spaces after (after": lambda n: [filled("<plan>1. a\n2. b (after ", " ", ")</plan><answer>x</answer>", n)],
}


def nanoseconds(pieces: list[str], codec: Codec) -> float:
    """Per character, the median of some repetitions."""
    size = sum(map(len, pieces))
    samples = []
    for _ in range(max(3, min(200, 3_000_000 // size))):
        began = time.perf_counter()
        parser = TurnParser(codec)
        for piece in pieces:
            parser.feed(piece)
        parser.finish()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples) / size * 1e9


def measure() -> int:
    sizes = (1_000, 10_000, 100_000, 1_000_000)
    print(f"{'nanoseconds per character':44}" + "".join(f"{size:>11,}" for size in sizes) + "   1 MB / 1 kB")
    slow = 0
    for name, shape in SHAPES.items():
        times = [nanoseconds(shape(size), codec_for(Spelling.JSON)) for size in sizes]
        slow += times[-1] > 10 * times[0]
        print(f"{name:44}" + "".join(f"{t:11.2f}" for t in times) + f"{times[-1] / times[0]:14.2f}")
    return slow


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    return 1 if measure() + fuzz(options.turns, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
