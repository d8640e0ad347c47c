"""Splits of generated tasks: seed ranges that never meet."""

from __future__ import annotations

from enum import StrEnum


class Split(StrEnum):
    """Which tasks: for training, for choosing between recipes, or for the reported numbers."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLIT_START: dict[Split, int] = {Split.TRAIN: 0, Split.VALIDATION: 2**24, Split.TEST: 2**30}
"""First item index of each split."""
SPLIT_SIZE = 2**20
