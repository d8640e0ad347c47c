"""The engine that samples from any live transformers model, in place: no copy of the weights, no weight sync."""

from .engine import TorchEngine
from .stats import EngineStats

__all__ = ["EngineStats", "TorchEngine"]
