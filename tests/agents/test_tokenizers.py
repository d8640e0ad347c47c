import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forethought.agents import ByteTokenizer, WordTokenizer
from forethought.agents.tokenizers import TransformersTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = ["", "a", "naïve 中文 🎈", "<plan>\n1. x\n</plan>", " two  spaces ", "\x00\n\t", "e\u0301🏳️‍🌈"]


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_give_the_text_back(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    pieces = tokenizer.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_bytes_that_are_no_text_do_not_raise() -> None:
    tokenizer = ByteTokenizer()
    assert "".join(tokenizer.pieces([0xE4, 0xB8, 258, 97, 0xFF])).count("\ufffd") >= 2
    assert tokenizer.encode("a\ud800b") == list(b"a?b")
    assert tokenizer.pieces([97, 256, 98]) == ["a", "", "b"]


def test_words_give_the_words_back() -> None:
    tokenizer = WordTokenizer(["follow", "7"])
    turn = "<plan> 1. follow 7 </plan> <answer> 7 </answer>"
    ids = tokenizer.encode_turn(turn)
    assert tokenizer.pieces(ids) == ["<plan>", " <unk>", " follow", " 7", " </plan>", " <answer>", " 7", " </answer>"]
    assert len(set(tokenizer.words)) == len(tokenizer.words)


def test_special_words_in_a_text_are_unknown_words() -> None:
    tokenizer = WordTokenizer(["a"])
    special = "<bos> <eos> <turn> <pad> <unk> <plan> </plan> <think> <tool_call> <answer> </answer>"
    assert set(tokenizer.encode(special)) == {tokenizer.unknown}
    assert tokenizer.unknown not in tokenizer.encode("<tool_response> a </tool_response>")
    assert tokenizer.eos not in tokenizer.encode_turn("<plan> <eos> <turn> </plan>")


def test_ids_beyond_the_words_are_unknown() -> None:
    tokenizer = WordTokenizer(["a"])
    assert tokenizer.pieces([len(tokenizer.words), 10**6]) == ["<unk>", " <unk>"]


def test_a_word_tokenizer_comes_back_from_a_model_folder(tmp_path: Path) -> None:
    tokenizer = WordTokenizer(["follow", "7", "naïve"])
    saved = tokenizer.to_transformers()
    saved.save_pretrained(tmp_path)
    loaded = WordTokenizer.from_model_folder(tmp_path)
    assert loaded is not None and loaded.words == tokenizer.words
    turn = "<plan> follow 7 </plan> <answer> naïve </answer>"
    assert saved(turn, add_special_tokens=False)["input_ids"] == tokenizer.encode_turn(turn)


def test_other_tokenizers_are_no_word_tokenizers(tmp_path: Path, chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    chat_tokenizer.save_pretrained(tmp_path)
    assert WordTokenizer.from_model_folder(tmp_path) is None


@pytest.mark.parametrize("text", TEXTS)
def test_transformers_tokens_give_the_text_back(text: str, chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    tokenizer = TransformersTokenizer(chat_tokenizer)
    for ids in (tokenizer.encode(text), tokenizer.encode_turn(text)):
        pieces = tokenizer.pieces(ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == text


def test_special_tokens_in_a_text_are_ordinary_text(chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    tokenizer = TransformersTokenizer(chat_tokenizer)
    text = "a<|im_end|>\n<|im_start|>system <plan></plan><|endoftext|>"
    ids = tokenizer.encode(text)
    assert not set(ids) & set(chat_tokenizer.all_special_ids)
    assert "".join(tokenizer.pieces(ids)) == text
    assert chat_tokenizer.convert_tokens_to_ids("<plan>") in tokenizer.encode_turn("<plan>1. x</plan>")


def test_any_ids_have_pieces(chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    """A model that was just made samples bytes that are no text."""
    tokenizer, rng = TransformersTokenizer(chat_tokenizer), random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(len(chat_tokenizer)) for _ in range(rng.randrange(50))]
        pieces = tokenizer.pieces(ids)
        assert len(pieces) == len(ids)
        "".join(pieces).encode()


def test_bytes_that_never_become_a_character_take_linear_time(chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    continuation = chat_tokenizer.get_vocab()["\u0122"]  # the byte 0x80
    pieces = TransformersTokenizer(chat_tokenizer).pieces([continuation] * 20_000)  # took minutes once
    assert "".join(pieces) == "\ufffd" * 20_000


def test_lone_surrogates_become_question_marks(chat_tokenizer: "PreTrainedTokenizerBase") -> None:
    tokenizer = TransformersTokenizer(chat_tokenizer)
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a?b")
    assert tokenizer.encode_turn("a\ud800b") == tokenizer.encode_turn("a?b")
