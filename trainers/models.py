"""Models built from scratch: any transformers architecture, with the words of an environment as vocabulary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        raise ConfigError(f"model.architecture: transformers knows no {architecture!r}; try 'llama' or 'qwen3'")
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
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.config: {architecture} cannot be built: {error}") from None
    return model, tokenizer


def load_model(path: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A saved or pretrained model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(str(path), dtype="auto"),
        AutoTokenizer.from_pretrained(str(path), padding_side="left"),
    )


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save so that a killed process leaves either the whole folder or none."""
    partial = folder.with_name(folder.name + ".partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.rename(partial, folder)
