"""What is wrong with a turn: data that becomes an observation, never an exception that leaves the environment."""

from __future__ import annotations

from dataclasses import dataclass

_EXCERPT = 60


@dataclass(frozen=True, slots=True)
class FormatError:
    """A turn that the grammar does not allow."""

    kind: str
    """`unexpected_text`, `unexpected_section`, `unclosed_section`, `missing_act`, `bad_plan` or `bad_call`."""
    expected: str
    found: str
    position: int
    """Character of the turn at which it shows."""

    def message(self) -> str:
        """One sentence for the policy: what was expected and what stood there."""
        return f"Format error: expected {self.expected}, found {self.found}."


class ContentError(ValueError):
    """Raised by a codec for a plan or call that it cannot read; the parser turns it into a `FormatError`."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


def excerpt(text: str) -> str:
    """The beginning of `text`, quoted, for an error message."""
    text = text.strip()
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")
