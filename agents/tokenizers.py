"""Tokenizers as rollouts need them: text to ids once, and the text of each sampled id."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..envs.protocol.codecs import MARKERS, RESPONSE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOS, EOS, TURN, PAD, UNKNOWN = "<bos>", "<eos>", "<turn>", "<pad>", "<unk>"


class Tokenizer(Protocol):
    """What a context format is written against."""

    def encode(self, text: str) -> list[int]:
        """Ids of text that the policy reads: special tokens spelled in it are plain text."""
        ...

    def encode_turn(self, text: str) -> list[int]:
        """Ids of a turn as a policy would sample it: markers may be tokens of their own."""
        ...

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token adds: joined, they are the text of all (a token may add nothing)."""
        ...


class ByteTokenizer:
    """UTF-8 bytes and three special ids: for scripted policies, which need a tokenizer but no model."""

    eos, bos, turn = 256, 257, 258

    def encode(self, text: str) -> list[int]:
        """One id a byte; lone surrogates become question marks."""
        return list(text.encode("utf-8", "replace"))

    encode_turn = encode

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The character that each byte completes; bytes that are not UTF-8 become U+FFFD."""
        try:
            return list(bytes(token_ids).decode("ascii"))
        except ValueError:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            pieces = [decoder.decode(bytes((i,))) if i < 256 else "" for i in token_ids]
            if pieces:
                pieces[-1] += decoder.decode(b"", final=True)
            return pieces


class WordTokenizer:
    """One id a word, words separated by spaces: the tokenizer of the spelling `words`.

    Args:
        words: The words that tasks and observations use; the markers of the protocol and the special tokens
            `<bos> <eos> <turn> <pad> <unk>` come before them.
    """

    def __init__(self, words: Iterable[str]) -> None:
        markers = [m for pair in (*MARKERS.values(), RESPONSE) for m in pair]
        self.words = list(dict.fromkeys([PAD, UNKNOWN, BOS, EOS, TURN, *markers, "|", "(", ")", "after", *words]))
        self._ids = {word: i for i, word in enumerate(self.words)}
        self._spaced = [f" {word}" for word in self.words]
        self.unknown, self.bos, self.eos, self.turn = (self._ids[w] for w in (UNKNOWN, BOS, EOS, TURN))
        reserved = {PAD, UNKNOWN, BOS, EOS, TURN}
        self._of_turns = {word: i for word, i in self._ids.items() if word not in reserved}
        reserved |= {m for pair in MARKERS.values() for m in pair}
        self._of_texts = {word: i for word, i in self._ids.items() if word not in reserved}

    def encode(self, text: str) -> list[int]:
        """One id a word; a word that is not known becomes `<unk>`, and so do special tokens and markers of turns."""
        get, unknown = self._of_texts.get, self.unknown
        return [get(word, unknown) for word in text.split()]

    def encode_turn(self, text: str) -> list[int]:
        """One id a word, markers among them."""
        get, unknown = self._of_turns.get, self.unknown
        return [get(word, unknown) for word in text.split()]

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The words, each but the first with the space before it; an id without a word is `<unk>`."""
        spaced, count, unknown = self._spaced, len(self._spaced), self.unknown
        pieces = [spaced[i if i < count else unknown] for i in token_ids]
        if pieces:
            pieces[0] = pieces[0][1:]
        return pieces

    def to_transformers(self) -> PreTrainedTokenizerBase:
        """The same tokenizer for transformers and TRL."""
        from tokenizers import Tokenizer as RustTokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from transformers import PreTrainedTokenizerFast

        rust = RustTokenizer(WordLevel(self._ids, unk_token=UNKNOWN))
        rust.pre_tokenizer = WhitespaceSplit()
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=rust, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN, padding_side="left"
        )

    @classmethod
    def from_model_folder(cls, folder: Path) -> WordTokenizer | None:
        """The word tokenizer saved with a model, or None when the model has another kind of tokenizer."""
        path = folder / "tokenizer.json"
        model: dict[str, Any] = json.loads(path.read_text("utf-8"))["model"]
        if model["type"] != "WordLevel":
            return None
        words = sorted(model["vocab"], key=model["vocab"].__getitem__)
        tokenizer = cls(words)
        if tokenizer.words != words:
            raise ValueError(f"{path}: a word-level vocabulary that this package did not write")
        return tokenizer


class TransformersTokenizer:
    """Any fast tokenizer of transformers."""

    _LONGEST = 8
    """Tokens that can share one character: four bytes, with room for markers of bytes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Special tokens that someone spelled in `text` are split into ordinary ones; lone surrogates become `?`."""
        ids: list[int] = self.tokenizer(_unicode(text), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return ids

    def encode_turn(self, text: str) -> list[int]:
        """Special tokens stay whole."""
        ids: list[int] = self.tokenizer(_unicode(text), add_special_tokens=False)["input_ids"]
        return ids

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds; a token that ends inside a character adds nothing, the next one adds it."""
        from tokenizers.decoders import DecodeStream

        rust = self.tokenizer.backend_tokenizer
        stream = DecodeStream(skip_special_tokens=False)
        pieces: list[str] = []
        waiting: list[int] = []
        for token_id in token_ids:
            waiting.append(token_id)
            try:
                piece = stream.step(rust, token_id)
            except Exception:  # tokenizers gives up on some sequences that are not text
                piece = None
                stuck = True
            else:
                stuck = piece is None and len(waiting) >= self._LONGEST
            if stuck:
                # Bytes that will never be a character: the stream would read all of them again at every step.
                piece, stream = rust.decode(waiting, skip_special_tokens=False), DecodeStream(skip_special_tokens=False)
            if piece is not None:
                waiting.clear()
            pieces.append(piece or "")
        if waiting:
            pieces[-1] += rust.decode(waiting, skip_special_tokens=False)
        return pieces


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()
