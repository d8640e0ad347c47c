"""Embedded sandboxes for tests, in either tier, and the hostile programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from forethought.sandboxes import EmbeddedSandbox, Limits, SandboxUnavailable

Tier = Literal["namespaces", "no-namespaces"]

GAPS = {"host /dev/shm leak": "existence of host paths can be found out without a mount namespace"}
"""Hostile programs that the weaker tier does not hold, and why: as its documentation says."""


async def started(tier: Tier, limits: Limits | None = None, spares: int = 1) -> EmbeddedSandbox:
    """A sandbox of one tier, or a skip where this machine cannot hold it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the embedded sandbox needs Linux")
    # Sessions of root run as other users there, who cannot read an environment in root's home.
    own = tier == "namespaces" or os.getuid() != 0 or not sys.base_prefix.startswith("/root")
    sandbox = EmbeddedSandbox(limits, spares=spares, require=tier, python=None if own else "/usr")
    try:
        await sandbox.start()
    except SandboxUnavailable as error:
        pytest.skip(f"this machine cannot hold the tier: {error}")
    return sandbox


def hostile_programs() -> tuple[str, list[dict[str, Any]]]:
    """The prelude and the programs; none where the file is not there."""
    shared = os.environ.get("FORETHOUGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared"
    file = Path(shared) / "hostile" / "programs.json"
    if not file.exists():
        return "", []
    data = json.loads(file.read_text())
    return data["prelude"], data["programs"]
