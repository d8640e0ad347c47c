"""Scripted policies by name."""

from __future__ import annotations

import importlib

from ..agents.agent import Script
from .toml_tables import ConfigError


def load_script(name: str) -> Script:
    """The script `module:function`.

    Raises:
        ConfigError: there is no such module or function.
    """
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"a script is named 'module:function', found {name!r}")
    try:
        script: Script = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"script {name!r}: {error}") from None
    return script
