"""Agents from a model on this machine: a folder or hub name with weights and a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agent import ModelAgent
from .context_format import ChatFormat, ContextFormat, PlainFormat
from .engine import SamplingParams
from .tokenizers import WordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model_agent(
    path: str | Path,
    *,
    sampling: SamplingParams | None = None,
    device: str = "auto",
    slots: int = 64,
    context_limit: int | None = None,
) -> ModelAgent:
    """A model behind the torch engine.

    Args:
        path: Folder or hub name.
        sampling: How turns are sampled.
        device: `auto` (a GPU when there is one), `cpu` or `cuda`.
        slots: Most turns sampled at once.
        context_limit: Most tokens of a context; by default what the engine chooses for the model.

    Raises:
        OSError: there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(str(path), dtype="auto")
    return model_agent(
        model.to(device).eval(),
        format_for(path),
        sampling=sampling,
        slots=slots,
        context_limit=context_limit,
        name=Path(path).name,
    )


def model_agent(
    model: PreTrainedModel,
    format: ContextFormat,
    *,
    sampling: SamplingParams | None = None,
    slots: int = 64,
    context_limit: int | None = None,
    name: str = "model",
) -> ModelAgent:
    """A live model behind the torch engine: it always samples with the model's present weights."""
    from .engines.torch_engine import TorchEngine

    engine = TorchEngine(model, max_slots=slots, context_limit=context_limit)
    return ModelAgent(engine=engine, format=format, sampling=sampling or SamplingParams(), name=name)


def format_for(path: str | Path) -> ContextFormat:
    """The context format of a saved model: plain for a word-level tokenizer, else the chat template."""
    if (Path(path) / "tokenizer.json").exists():
        words = WordTokenizer.from_model_folder(Path(path))
        if words is not None:
            return PlainFormat(words)
    from transformers import AutoTokenizer

    return ChatFormat(AutoTokenizer.from_pretrained(str(path)))
