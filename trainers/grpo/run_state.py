"""What a run remembers from batch to batch, kept in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ...agents.episode import Status
from .records import Record

_MEMORY = 10
"""Batches after which the running mean has forgotten all but 1/e of a batch."""


@runtime_checkable
class Stateful(Protocol):
    """Something whose state fits into JSON."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        ...


class FinishRate:
    """Running mean over batches of the share of episodes that the policy ended itself; faults are not counted."""

    def __init__(self) -> None:
        self.value: float | None = None
        """None before the first batch."""

    def note(self, records: Sequence[Record]) -> None:
        """Take a batch in."""
        counted = [record for record in records if record.counted]
        if not counted:
            return
        rate = sum(record.status is Status.COMPLETED for record in counted) / len(counted)
        self.value = rate if self.value is None else self.value + (rate - self.value) / _MEMORY

    def is_below(self, threshold: float | None) -> bool:
        """Whether the mean is below the threshold; never below None."""
        return threshold is not None and self.value is not None and self.value < threshold

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.value = state["value"]


class RunState(TrainerCallback, ExportableState):
    """Writes the state of its parts into every checkpoint, and gives it back to them when a run goes on.

    Args:
        parts: By the name under which the checkpoint keeps them.
    """

    def __init__(self, parts: Mapping[str, Stateful]) -> None:
        self._parts = parts

    def state(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"args": {}, "attributes": {name: part.state_dict() for name, part in self._parts.items()}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give the parts what the checkpoint kept; parts that it does not know begin anew."""
        callbacks: Any = state.stateful_callbacks
        kept = callbacks.get(type(self).__name__) if callbacks else None
        for name, part in self._parts.items():
            if isinstance(kept, dict) and name in kept["attributes"]:
                part.load_state_dict(kept["attributes"][name])
