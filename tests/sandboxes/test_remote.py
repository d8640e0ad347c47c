"""The remote sandbox, against a real server over the embedded backend: every behaviour of every backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("aiohttp", reason="the remote sandbox needs the extra `remote`")

from forethought.sandboxes import Limits, Sandbox
from forethought.sandboxes.backends import make_sandbox
from forethought.sandboxes.conformance import SandboxConformance

from .conftest import started
from .remote_server import TOKEN, served


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(folder=tmp_path_factory.mktemp("server")) as (url, _):
        yield url


class TestRemote(SandboxConformance):
    @pytest.fixture(autouse=True)
    async def server(self, url: str) -> None:
        await (await started("namespaces", spares=0)).close()  # Or a skip.
        self.url = url

    async def make(self, limits: Limits) -> Sandbox:
        return make_sandbox("remote", limits, url=self.url, token=TOKEN, patience=5.0)
