"""Models built from scratch: any transformers architecture, with the words of an environment as vocabulary."""

from __future__ import annotations

import difflib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agents.local_model import load_weights, loading, one_sentence
from ..agents.tokenizers import WordTokenizer
from .recipe import ModelTable
from .toml_tables import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def build_model(table: ModelTable, words: WordTokenizer, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model with random weights and its tokenizer.

    Raises:
        ConfigError: transformers knows no such architecture, or it does not take this configuration.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    architecture = table.architecture
    if architecture is None or architecture not in CONFIG_MAPPING:
        close = difflib.get_close_matches(str(architecture), [str(name) for name in CONFIG_MAPPING], n=1)
        hint = f"did you mean {close[0]!r}?" if close else "try 'llama' or 'qwen3'"
        raise ConfigError(f"model.architecture: transformers knows no {architecture!r}; {hint}")
    tokenizer = words.to_transformers()
    special = {
        "vocab_size": len(words.words),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    try:
        config = AutoConfig.for_model(architecture, **(special | table.config))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the many architectures raise over their fields
        raise ConfigError(f"model.config: {architecture} cannot be built: {one_sentence(error)}") from None
    return model, tokenizer


def load_model(path: str | Path, dtype: str = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A saved or pretrained model and its tokenizer.

    Raises:
        ModelError: there is no such model.
    """
    from transformers import AutoTokenizer

    with loading(path):
        # Some architectures (qwen2) would get a tokenizer class of their own, whatever was saved.
        words = WordTokenizer.from_model_folder(Path(path)) if (Path(path) / "tokenizer.json").exists() else None
        tokenizer: PreTrainedTokenizerBase = (
            AutoTokenizer.from_pretrained(str(path), padding_side="left") if words is None else words.to_transformers()
        )
    return load_weights(path, dtype), tokenizer


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save so that a killed process leaves either the whole folder or none; a folder that is there is replaced."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
