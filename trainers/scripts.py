"""Scripted policies by name."""

from __future__ import annotations

import difflib
import importlib
import inspect

from ..agents.agent import Script
from .toml_tables import ConfigError


def load_script(name: str) -> Script:
    """The script `module:function`.

    Raises:
        ConfigError: there is no such module or function.
    """
    module_name, colon, function = name.partition(":")
    if not colon or not module_name or not function:
        raise ConfigError(f"a script is named 'module:function', found {name!r}")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise ConfigError(f"script {name!r}: {error}") from None
    script = getattr(module, function, None)
    if not inspect.isgeneratorfunction(script):
        others = [
            n for n, value in vars(module).items() if inspect.isgeneratorfunction(value) and not n.startswith("_")
        ]
        close = difflib.get_close_matches(function, others, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(others) or 'none'}"
        raise ConfigError(f"script {name!r}: {module_name} has no generator function {function!r}; {hint}")
    found: Script = script
    return found
