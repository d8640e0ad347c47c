"""The embedded sandbox: the behaviours of every backend in both tiers, and its own promises."""

from __future__ import annotations

import sys

import pytest

from forethought.sandboxes import Limits, Sandbox
from forethought.sandboxes.conformance import SandboxConformance

from .conftest import started

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the embedded sandbox needs Linux")


class TestNamespaces(SandboxConformance):
    async def make(self, limits: Limits) -> Sandbox:
        return await started("namespaces", limits)


class TestNoNamespaces(SandboxConformance):
    disk_is_exact = False

    async def make(self, limits: Limits) -> Sandbox:
        return await started("no-namespaces", limits)
