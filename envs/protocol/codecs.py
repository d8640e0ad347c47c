"""The two spellings of the grammar: how plans and calls are written inside their sections.

`json` is the shape that pretrained chat models emit. `words` has a few special tokens and one word per token, for
models of a million parameters that are trained from scratch.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar

from .errors import ContentError, excerpt
from .plan import MAX_STEPS, Plan, PlanStep
from .turn import Call, SectionKind

MARKERS: dict[SectionKind, tuple[str, str]] = {
    SectionKind.PLAN: ("<plan>", "</plan>"),
    SectionKind.THINK: ("<think>", "</think>"),
    SectionKind.CALL: ("<tool_call>", "</tool_call>"),
    SectionKind.SUMMARY: ("<summary>", "</summary>"),
    SectionKind.ANSWER: ("<answer>", "</answer>"),
}
RESPONSE = ("<tool_response>", "</tool_response>")
MAX_DEPTH = 64
"""Levels of lists and objects in a call: what is nested deeper could not be written or validated again."""


class Spelling(StrEnum):
    """Names of the codecs."""

    JSON = "json"
    WORDS = "words"


class Codec(ABC):
    """Reads and writes what stands inside the sections."""

    spelling: ClassVar[Spelling]
    summary_request: ClassVar[str]
    """What a policy reads when its context has no room left but for a summary."""
    _gap: ClassVar[str]
    """What separates a marker from its content, and sections from each other."""
    _paragraph: ClassVar[str]
    """What separates a prompt from what follows it."""

    @abstractmethod
    def read_plan(self, text: str) -> Plan:
        """Parse the content of a plan section, or raise `ContentError`."""

    @abstractmethod
    def read_call(self, text: str) -> Call:
        """Parse the content of a call section, or raise `ContentError`."""

    @abstractmethod
    def write_call(self, call: Call) -> str:
        """The content of a call section."""

    @abstractmethod
    def write_plan(self, steps: Sequence[PlanStep]) -> str:
        """The content of a plan section."""

    @abstractmethod
    def instructions(self, mode_rules: str, tools: Sequence[dict[str, Any]]) -> str:
        """What a model that was not trained on the protocol must be told; empty where models are trained on it."""

    def write_turn(
        self,
        *,
        plan: Sequence[str | PlanStep] | None = None,
        think: str | None = None,
        calls: Sequence[Call] = (),
        summary: str | None = None,
        answer: str | None = None,
    ) -> str:
        """A whole turn, for scripted policies and traces. Plan steps given as text are numbered."""
        parts: list[tuple[SectionKind, str]] = []
        if plan is not None:
            steps = [PlanStep(i, s) if isinstance(s, str) else s for i, s in enumerate(plan, 1)]
            parts.append((SectionKind.PLAN, self.write_plan(steps)))
        if think is not None:
            parts.append((SectionKind.THINK, think))
        parts += [(SectionKind.CALL, self.write_call(call)) for call in calls]
        if summary is not None:
            parts.append((SectionKind.SUMMARY, summary))
        if answer is not None:
            parts.append((SectionKind.ANSWER, answer))
        return self._gap.join(self._wrap(MARKERS[kind], content) for kind, content in parts)

    def write_observation(self, outputs: Sequence[str]) -> str:
        """Tool outputs as the policy reads them, in the order of the calls."""
        return self._gap.join(self._wrap(RESPONSE, output) for output in outputs)

    def write_restart(self, opening: str, plan: Sequence[PlanStep] | None, summary: str) -> str:
        """The text with which a context begins after a summary."""
        parts = [opening, *([] if plan is None else [self.write_turn(plan=plan)]), self.write_turn(summary=summary)]
        return self._paragraph.join(parts)

    def join(self, first: str, second: str) -> str:
        """Two paragraphs of a prompt; either may be empty."""
        return f"{first}{self._paragraph}{second}" if first and second else first or second

    def _wrap(self, markers: tuple[str, str], content: str) -> str:
        return f"{markers[0]}{self._gap}{content}{self._gap if content else ''}{markers[1]}"


class JsonCodec(Codec):
    """Calls as JSON objects, plan steps one a line."""

    spelling = Spelling.JSON
    summary_request = (
        "Your context is full. Write what you know and still need between <summary> and </summary>, and nothing else: "
        "you go on from the task, your plan and this summary."
    )
    _gap = "\n"
    _paragraph = "\n\n"

    def read_plan(self, text: str) -> Plan:
        """Steps stand one a line."""
        return Plan.from_lines([line for raw in text.split("\n") if (line := raw.strip())])

    def write_plan(self, steps: Sequence[PlanStep]) -> str:
        """One step a line."""
        return "\n".join(_write_step(s, "(after {})", ", ") for s in steps)

    def read_call(self, text: str) -> Call:
        """`{"name": "search", "arguments": {"query": "..."}, "step": 1}`; `arguments` and `step` may be missing."""
        expected = 'a JSON object {"name": ..., "arguments": {...}}'
        try:
            value = _JSON.decode(text)
        except (ValueError, RecursionError) as error:
            raise ContentError(expected, f"{excerpt(text)} ({_reason(error)})") from None
        if text.count("{") + text.count("[") > MAX_DEPTH and _too_deep(value):
            raise ContentError(f"{expected} of at most {MAX_DEPTH} levels", excerpt(text))
        if not isinstance(value, dict):
            raise ContentError(expected, excerpt(text))
        name, arguments, step = value.get("name"), value.get("arguments", {}), value.get("step")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise ContentError(expected, excerpt(text))
        if step is not None and (type(step) is not int or not 1 <= step <= MAX_STEPS):
            raise ContentError(f'"step" to be the number of a plan step, 1 to {MAX_STEPS}', excerpt(json.dumps(step)))
        return Call(name, arguments, step)

    def write_call(self, call: Call) -> str:
        """The JSON object; `</` is escaped, so that no argument can end the section."""
        if not isinstance(call.arguments, dict):
            raise TypeError("json spelling writes arguments by name")
        value: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
        if call.step is not None:
            value["step"] = call.step
        return json.dumps(value, ensure_ascii=False).replace("</", "<\\/")

    def instructions(self, mode_rules: str, tools: Sequence[dict[str, Any]]) -> str:
        """The grammar in words, then the tools as JSON Schemas."""
        parts = [mode_rules]
        if tools:
            parts.append("Tools:\n" + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
        return "\n\n".join(parts)


class WordsCodec(Codec):
    """One word per token.

    `<plan> 1. follow 7 2. answer ( after 1 ) </plan>`, `<tool_call> 1. lookup E5 | R3 </tool_call>`: in a call an
    optional step number comes first, then the tool's name, then its arguments by position, separated by `|`.
    """

    spelling = Spelling.WORDS
    summary_request = "full"
    _gap = " "
    _paragraph = " "
    _number = re.compile(r"\d{1,3}\.\Z")

    def read_plan(self, text: str) -> Plan:
        """A step begins at each word that is a number with a full stop."""
        lines: list[list[str]] = []
        for word in text.split():
            if self._number.match(word) or not lines:
                lines.append([])
            lines[-1].append(word)
        return Plan.from_lines([" ".join(words) for words in lines])

    def write_plan(self, steps: Sequence[PlanStep]) -> str:
        """All steps on one line."""
        return " ".join(_write_step(s, "( after {} )", " ") for s in steps)

    def read_call(self, text: str) -> Call:
        """`[step.] name argument | argument`."""
        words = text.split()
        step = int(words.pop(0)[:-1]) if words and self._number.match(words[0]) else None
        if not words:
            raise ContentError("the name of a tool", "an empty call")
        if step is not None and not 1 <= step <= MAX_STEPS:
            raise ContentError(f"the number of a plan step, 1 to {MAX_STEPS}", f"'{step}.'")
        name, rest = words[0], words[1:]
        if not rest:
            return Call(name, (), step)
        return Call(name, tuple(part.strip() for part in " ".join(rest).split("|")), step)

    def write_call(self, call: Call) -> str:
        """Arguments in the order given."""
        values = call.arguments.values() if isinstance(call.arguments, dict) else call.arguments
        prefix = "" if call.step is None else f"{call.step}. "
        return f"{prefix}{call.name} {' | '.join(str(v) for v in values)}".rstrip()

    def instructions(self, mode_rules: str, tools: Sequence[dict[str, Any]]) -> str:
        """Nothing: models that speak `words` are trained on it."""
        return ""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large")
    return value


def _too_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        level = inner
    return True


_JSON = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_finite)
_CODECS: dict[Spelling, Codec] = {Spelling.JSON: JsonCodec(), Spelling.WORDS: WordsCodec()}


def codec_for(spelling: Spelling | str) -> Codec:
    """The codec of that name."""
    try:
        return _CODECS[Spelling(spelling)]
    except ValueError:
        raise ValueError(
            f"spelling must be one of {', '.join(s.value for s in Spelling)}, found {spelling!r}"
        ) from None


def _write_step(step: PlanStep, after: str, separator: str) -> str:
    text = f"{step.number}. {step.text}"
    return f"{text} {after.format(separator.join(map(str, step.after)))}" if step.after else text


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
