"""How contexts were made of tokens: enough to make the same tokens again when a run is verified."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...envs.protocol import Spelling
from ...envs.protocol.codecs import MARKERS, RESPONSE
from ...envs.tool_env import ToolEnv
from ..agent import Agent
from ..context_format import ChatFormat, ContextFormat, PlainFormat
from ..context_window import ContextWindow
from ..tokenizers import ByteTokenizer, WordTokenizer
from .run_files import RunError

SCHEMA = "forethought/leaderboard-context/1"
_MARKERS = frozenset(marker for pair in (*MARKERS.values(), RESPONSE) for marker in pair)


def describe_contexts(agent: Agent, env: ToolEnv) -> dict[str, Any]:
    """What `context.json` says: the tokenizer, the window, the engine's limit."""
    env.reset()
    return {
        "schema": SCHEMA,
        "tokenizer": _describe_format(agent.format),
        "window": {**asdict(agent.window), "policy": str(agent.window.policy)},
        "context_limit": agent.engine_for(env).context_limit,
    }


def read_contexts(data: dict[str, Any], where: str) -> tuple[ContextWindow, int, dict[str, Any]]:
    """The window, the engine's limit and the tokenizer of `context.json`.

    Raises:
        RunError: it is something else.
    """
    try:
        if data["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA!r}, found {data['schema']!r}")
        limit, tokenizer = data["context_limit"], data["tokenizer"]
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ValueError(f"expected a context_limit of at least 1, found {limit!r}")
        if not isinstance(tokenizer, dict) or tokenizer.get("kind") not in ("bytes", "words", "model", "unknown"):
            raise ValueError(f"expected a tokenizer of a known kind, found {str(tokenizer)[:100]}")
        return ContextWindow(**data["window"]), limit, tokenizer
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{where}: does not say how contexts were made: {error}") from None


def format_of(tokenizer: dict[str, Any], env: ToolEnv, model: ContextFormat | None, where: str) -> ContextFormat | None:
    """The format that a description names; None where nobody but its maker can make the tokens again.

    Args:
        tokenizer: The description.
        env: The environment, for its spelling.
        model: The format of the model, for the kind `model`; None when it is not at hand.
        where: The file, for messages.

    Raises:
        RunError: the words would make few tokens of a long text: one of them holds a space or a marker, or the
            environment is not written in words.
    """
    kind = tokenizer["kind"]
    if kind == "bytes":
        return PlainFormat(ByteTokenizer())
    if kind == "words":
        words = tokenizer.get("words")
        if env.codec.spelling is not Spelling.WORDS:
            raise RunError(f"{where}: a tokenizer of words in an environment that is not written in words")
        if not isinstance(words, list) or not all(map(_is_word, words)) or WordTokenizer(words).words != words:
            raise RunError(f"{where}: the tokenizer's words are not single words in the order of a WordTokenizer")
        return PlainFormat(WordTokenizer(words))
    return model if kind == "model" else None


def _is_word(word: Any) -> bool:
    """Whether a word is one: without white space, and a marker only if it is nothing else."""
    if not isinstance(word, str) or word.split() != [word]:
        return False
    return word in _MARKERS or not any(marker in word for marker in _MARKERS)


def _describe_format(form: ContextFormat) -> dict[str, Any]:
    if type(form) is PlainFormat:
        if type(form.tokenizer) is ByteTokenizer:
            return {"kind": "bytes"}
        if type(form.tokenizer) is WordTokenizer:
            return {"kind": "words", "words": form.tokenizer.words}
    return {"kind": "model" if type(form) is ChatFormat else "unknown"}
