from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install forethought[train]")

import torch

from forethought.agents.local_model import ModelError
from forethought.agents.tokenizers import WordTokenizer
from forethought.trainers.models import build_model, load_model, save_model
from forethought.trainers.recipe import ModelTable
from forethought.trainers.toml_tables import ConfigError

WORDS = WordTokenizer(["a", "b", "c"])
SMALL = {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
}


def _embedding(model: Any) -> torch.Tensor:
    weight: torch.Tensor = model.get_input_embeddings().weight
    return weight


def build(seed: int = 0, architecture: str = "gpt2", **config: Any) -> Any:
    return build_model(ModelTable(architecture=architecture, config=SMALL[architecture] | config), WORDS, seed)


@pytest.mark.parametrize("architecture", SMALL)
def test_a_model_has_the_words_of_the_environment(architecture: str) -> None:
    model, tokenizer = build(architecture=architecture)
    assert model.get_input_embeddings().num_embeddings == len(WORDS.words) == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id == WORDS.eos
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer("a b c")["input_ids"] == WORDS.encode("a b c")
    assert model.dtype == torch.float32


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build(seed)[0].get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ModelTable(architecture="lama"), "transformers knows no 'lama'; did you mean"),
        (ModelTable(architecture="gpt2", config={"n_embd": 15, "n_head": 2}), "model.config: gpt2 cannot be built"),
        (ModelTable(architecture="gpt2", config={"n_embd": "wide"}), "model.config: gpt2 cannot be built"),
        (ModelTable(architecture="vit"), "model.config: vit cannot be built"),
    ],
)
def test_what_transformers_cannot_build(table: ModelTable, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(table, WORDS, 0)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model, tokenizer = build()
    save_model(model, tokenizer, tmp_path / "model")
    loaded, again = load_model(tmp_path / "model")
    assert torch.equal(_embedding(loaded), _embedding(model))
    assert again("a b")["input_ids"] == tokenizer("a b")["input_ids"] and again.padding_side == "left"
    assert load_model(tmp_path / "model", "bfloat16")[0].dtype == torch.bfloat16


def test_saving_again_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "stale").touch()
    for seed in (1, 2):
        model, tokenizer = build(seed)
        save_model(model, tokenizer, tmp_path / "model")
    loaded, _ = load_model(tmp_path / "model")
    assert torch.equal(_embedding(loaded), _embedding(model))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "stale").exists()


def test_there_may_be_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at .*: there is no such folder"):
        load_model(tmp_path / "missing")


def test_the_words_survive_in_every_architecture(tmp_path: Path) -> None:
    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    table = ModelTable(architecture="qwen2", config=config | {"num_key_value_heads": 1})
    save_model(*build_model(table, WORDS, 0), tmp_path / "model")
    _, tokenizer = load_model(tmp_path / "model")
    assert tokenizer("a b c").input_ids == WORDS.encode("a b c")
