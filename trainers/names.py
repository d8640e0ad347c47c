"""Names of runs, and of their folders."""

from __future__ import annotations

START_RUN = "SFT"
"""The model before reinforcement learning."""
MAIN_RUN = "RL"
"""The recipe's reinforcement learning without any ablation."""
ORACLE_RUN = "oracle"
"""The scripted policy that spends what each task needs and no more."""


def slug(name: str) -> str:
    """A name as a folder: lower case, hyphens."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
