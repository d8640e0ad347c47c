"""The text of each sampled token, where a tokenizer is known; what it says is checked against the text of the turn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..tokenizers import ByteTokenizer, TransformersTokenizer

_MOST_FILES = 50
_WORD = re.compile(r"\s*\S+")
_RECIPE = "recipe.resolved.toml"
Pieces = Callable[[Sequence[int], str], list[str] | None]
"""From the ids and the text of a turn to what each id adds to the text, or None when they do not fit."""


class PieceFinder:
    """Finds the tokenizer that a run was made with: bytes, words, or that of a model in the run's folder.

    Args:
        folder: The folder of the episodes.
        model: A model's folder that is tried first.
    """

    def __init__(self, folder: Path, model: Path | None = None) -> None:
        self._folder = folder
        self._model = model
        self._known: list[tuple[str, Pieces]] | None = None

    def pieces(self, token_ids: Sequence[int], text: str) -> tuple[str, list[str]] | None:
        """Name of the tokenizer and what each token adds to the text; None when no tokenizer fits."""
        if self._known is None:
            models = self._of_models()
            given = 0 if self._model is None else 1
            self._known = [*models[:given], ("bytes", _byte_pieces), ("words", _word_pieces), *models[given:]]
        for name, cut in self._known:
            pieces = cut(token_ids, text)
            if pieces is not None:
                return name, pieces
        return None

    def _of_models(self) -> list[tuple[str, Pieces]]:
        """Tokenizers of the models in the run, one of each kind."""
        files = [self._model / "tokenizer.json"] if self._model is not None else []
        root = next((f for f in (self._folder, *self._folder.parents) if (f / _RECIPE).exists()), self._folder)
        files += sorted(root.glob("*/model/tokenizer.json"))[:_MOST_FILES]
        seen: set[bytes] = set()
        found: list[tuple[str, Pieces]] = []
        for file in files:
            try:
                digest = hashlib.sha256(file.read_bytes()).digest()
                if digest in seen:
                    continue
                seen.add(digest)
                from tokenizers import Tokenizer

                # Only its pieces are asked for, so what loads a model, and with it torch, stays out.
                rust: Any = SimpleNamespace(backend_tokenizer=Tokenizer.from_file(str(file)))
                found.append((file.parent.parent.name, _model_pieces(TransformersTokenizer(rust))))
            except Exception:  # missing, damaged, or the train extra is not installed: sections are coloured instead
                continue
        return found


def _fitting(pieces: list[str], text: str) -> list[str] | None:
    """The pieces if they spell the text; the last one may be the token that ends a turn."""
    joined = "".join(pieces)
    if joined == text or "".join(pieces[:-1]) == text:
        return pieces
    return None


def _byte_pieces(token_ids: Sequence[int], text: str) -> list[str] | None:
    if not all(0 <= i <= ByteTokenizer.turn for i in token_ids):
        return None
    return _fitting(ByteTokenizer().pieces(token_ids), text)


def _word_pieces(token_ids: Sequence[int], text: str) -> list[str] | None:
    """One id a word: the words of the text, if the same id always stands for the same word."""
    words = _WORD.findall(text)
    if not words or len(words) not in (len(token_ids), len(token_ids) - 1):
        return None
    spelled: dict[int, str] = {}
    for token_id, word in zip(token_ids, words, strict=False):
        if spelled.setdefault(token_id, word.strip()) != word.strip():
            return None
    if len(set(spelled.values())) != len(spelled):
        return None
    return [*words, *[""] * (len(token_ids) - len(words))]


def _model_pieces(tokenizer: TransformersTokenizer) -> Pieces:
    return lambda token_ids, text: _fitting(tokenizer.pieces(token_ids), text)
