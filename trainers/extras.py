"""Imports of what an extra brings, with the command that installs it when it is missing."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """A part of the package needs an extra that is not installed."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import `module`.

    Raises:
        MissingExtra: it, or something that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this needs {error.name}, which is not installed: pip install 'forethought[{extra}]'"
        ) from error
