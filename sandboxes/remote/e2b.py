"""A client of E2B (https://e2b.dev), or of whatever speaks its protocol, through E2B's own SDK.

Written against the SDK `e2b-code-interpreter` 2.11 and tested with it against a server of our own that speaks the same
protocol; the hosted service was not reached.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Mapping
from typing import Any

from ..faults import SandboxUnavailable
from ..sandbox import Limits, SandboxUsageError
from .e2b_session import E2BSession, reached


class E2BSandbox:
    """Sessions as E2B's virtual machines: one `AsyncSandbox` each, with the interpreter that lives in it.

    What the limits are worth: wall time is asked of the SDK, output, values and files are cut here. Memory, CPU time,
    processes and disk are what the template gives. The network is shut off when a machine is made, unless `network`.
    A machine that is closed is killed; one whose client dies is killed by the service after `lifetime`.

    Args:
        limits: Of every session.
        template: Of the machines; E2B's code interpreter when None.
        lifetime: Seconds after which the service ends a machine, whatever it does.
        network: Whether code may reach the internet.
        options: Of the SDK's `AsyncSandbox.create`, such as `api_key`, `domain` and `api_url`; `E2B_API_KEY` and the
            like in the environment work as well.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        template: str | None = None,
        lifetime: float = 3600.0,
        network: bool = False,
        **options: Any,
    ) -> None:
        self.limits = limits or Limits()
        self._creation = {
            "template": template,
            "timeout": math.ceil(lifetime),
            "allow_internet_access": network,
            **options,
        }
        self._network = network
        self._sdk: Any = None
        self._sessions: set[E2BSession] = set()
        self._closed = False

    async def start(self) -> None:
        """See `Sandbox.start`: finds the SDK; the service is first asked for a machine by `open`."""
        if self._closed:
            raise SandboxUsageError("the sandbox is closed: make a new one")
        if self._sdk is None:
            try:
                self._sdk = await asyncio.to_thread(importlib.import_module, "e2b_code_interpreter")
            except ModuleNotFoundError as error:
                raise SandboxUnavailable(
                    f"the E2B sandbox needs {error.name}, which is not installed: pip install e2b-code-interpreter"
                ) from None

    def describe(self) -> Mapping[str, str]:
        """See `Sandbox.describe`."""
        return {
            "backend": "e2b",
            "template": str(self._creation["template"] or "E2B's code interpreter"),
            "lifetime": f"{self._creation['timeout']} s",
            "network": "open" if self._network else "none: asked of the service",
            **dict.fromkeys(("memory", "cpu", "processes", "disk"), "as the template gives"),
        }

    async def open(self) -> E2BSession:
        """See `Sandbox.open`."""
        session = E2BSession(self, await self.machine())
        self._sessions.add(session)
        return session

    async def machine(self) -> Any:
        """A new `AsyncSandbox` of the SDK."""
        await self.start()
        return await reached(self._sdk.AsyncSandbox.create(**self._creation), "gives no machine")

    def forget(self, session: E2BSession) -> None:
        """A session was closed."""
        self._sessions.discard(session)

    async def close(self) -> None:
        """See `Sandbox.close`."""
        self._closed = True
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
