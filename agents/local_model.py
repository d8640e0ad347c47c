"""Agents from a model on this machine: a folder or hub name with weights and a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agent import ModelAgent
from .context_format import ChatFormat, ContextFormat, PlainFormat
from .context_window import ContextWindow
from .engine import SamplingParams
from .tokenizers import WordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelError(RuntimeError):
    """A model cannot be loaded; the message says which and why."""


def load_model_agent(
    path: str | Path,
    *,
    sampling: SamplingParams | None = None,
    device: str = "auto",
    slots: int = 64,
    context_limit: int | None = None,
    window: ContextWindow | None = None,
) -> ModelAgent:
    """A model behind the torch engine.

    Args:
        path: Folder or hub name.
        sampling: How turns are sampled.
        device: `auto` (a GPU when there is one), `cpu` or `cuda`.
        slots: Most turns sampled at once.
        context_limit: Most tokens of a context; by default what the engine chooses for the model.
        window: What happens when a context is full.

    Raises:
        ModelError: there is no such model, the engine cannot run it, or torch sees no GPU and one is asked for.
    """
    form = format_for(path)
    model: Any = load_weights(path)
    device = choose_device(device)
    return model_agent(
        model.to(device).eval(),
        form,
        sampling=sampling,
        slots=slots,
        context_limit=context_limit,
        window=window,
        name=Path(path).name,
    )


def model_agent(
    model: PreTrainedModel,
    format: ContextFormat,
    *,
    sampling: SamplingParams | None = None,
    slots: int = 64,
    context_limit: int | None = None,
    window: ContextWindow | None = None,
    name: str = "model",
) -> ModelAgent:
    """A live model behind the torch engine: it always samples with the model's present weights.

    Raises:
        ModelError: the engine cannot run it within these limits.
    """
    from .engines.torch_engine import TorchEngine

    try:
        engine = TorchEngine(model, max_slots=slots, context_limit=context_limit)
    except ValueError as error:
        raise ModelError(one_sentence(error)) from error
    return ModelAgent(
        engine=engine,
        format=format,
        sampling=sampling or SamplingParams(),
        window=window or ContextWindow(),
        name=name,
    )


def format_for(path: str | Path) -> ContextFormat:
    """The context format of a saved model: plain for a word-level tokenizer, else the chat template.

    Raises:
        ModelError: there is no such model, or it has no chat template.
    """
    with loading(path):
        if (Path(path) / "tokenizer.json").exists():
            words = WordTokenizer.from_model_folder(Path(path))
            if words is not None:
                return PlainFormat(words)
        from transformers import AutoTokenizer

        return ChatFormat(AutoTokenizer.from_pretrained(str(path)))


def load_weights(path: str | Path, dtype: str = "auto") -> PreTrainedModel:
    """The model of a folder or hub name, on the CPU.

    Raises:
        ModelError: there is no such model.
    """
    from transformers import AutoModelForCausalLM

    with loading(path):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype)
    return model


def choose_device(name: str) -> str:
    """`cpu` or `cuda`; `auto` is a GPU when there is one.

    Raises:
        ModelError: torch sees no GPU and one is asked for.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("device 'cuda' is asked for, and torch sees no GPU: use device 'cpu' or 'auto'")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


@contextmanager
def loading(path: str | Path) -> Iterator[None]:
    """Turn what transformers raises over a missing or broken model into a `ModelError`."""
    place = Path(path)
    # A name such as `org/model` is asked for at the hub, but not what can only be meant as a folder.
    is_name = not place.is_absolute() and len(place.parts) <= 2 and str(path)[:1] not in ".~"
    if not place.exists() and (not is_name or (len(place.parts) == 2 and place.parent.exists())):
        raise ModelError(f"no model at {path}: there is no such folder")
    if place.is_dir() and not (place / "config.json").exists():
        raise ModelError(f"no model at {path}: the folder has no config.json")
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load a model from {path}: {one_sentence(error)}") from error


def one_sentence(error: BaseException) -> str:
    """The beginning of what a library says over many lines."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."
