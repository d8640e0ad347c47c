"""`forethought/Code-v0`: write programs that hidden tests check, or compute answers by running code."""

from .env import CodeEnv
from .questions import load_gsm8k, load_humaneval

__all__ = ["CodeEnv", "load_gsm8k", "load_humaneval"]
