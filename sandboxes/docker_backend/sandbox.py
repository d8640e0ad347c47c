"""The Docker backend: a pool of hardened containers, each with one long-lived interpreter attached to it."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..faults import SandboxUnavailable
from ..sandbox import Limits, SandboxUsageError
from .channel import Channel, ChannelBroken
from .engine import ContainerOptions, Engine
from .owner import owner_labels
from .session import Container, DockerSession

T = TypeVar("T")
_log = logging.getLogger(__name__)
_START_SECONDS = 60.0
_MIN_MEMORY = 64 * 2**20


class DockerSandbox:
    """`forethought.sandboxes.Sandbox` over a Docker engine.

    Every session is one container that nothing has run in before and nothing will run in after it: without network,
    capabilities or a writable root, with an own seccomp allow-list, limits held by cgroups and a quota on its only
    writable folder. Containers end with the process that made them, however that ends.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        image: str | None = None,
        base_image: str | None = None,
        runtime: str | None = None,
        spares: int = 2,
        cpus: float = 1.0,
        labels: Mapping[str, str] | None = None,
        docker_host: str | None = None,
        lifetime: float = 24 * 3600.0,
    ) -> None:
        """Nothing is started yet.

        Args:
            limits: What one session may use.
            image: An image that an earlier run has built, where the engine must not build.
            base_image: What to build the image from: any image with python3. `python:3.11-slim` when it is None.
            runtime: Another container runtime of the engine, such as `runsc`.
            spares: How many containers to keep ready.
            cpus: Processors a session may use at a time.
            labels: Further labels of all containers.
            docker_host: The engine's address instead of DOCKER_HOST's.
            lifetime: Seconds after which a container may be taken for an orphan by runs on other machines.

        Raises:
            SandboxUsageError: the options contradict each other, or a limit is too small.
        """
        self.limits = limits or Limits()
        if image is not None and base_image is not None:
            raise SandboxUsageError("give image or base_image, not both")
        if self.limits.memory_bytes < _MIN_MEMORY:
            raise SandboxUsageError(f"memory_bytes must be at least {_MIN_MEMORY}")
        self.run_id = uuid.uuid4().hex
        self._wanted = (image, base_image)
        self._runtime = runtime
        self._spares = spares
        self._cpus = cpus
        self._labels = dict(labels or {})
        self._docker_host = docker_host
        self._lifetime = lifetime
        self._engine: Engine | None = None
        self._image = ""
        self._threads: ThreadPoolExecutor | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._ready: deque[Container] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling = 0
        self._sessions: set[DockerSession] = set()

    async def start(self) -> None:
        """Find the engine, remove what killed runs left, build the image, make a first container and the spares."""
        async with self._starting:
            if self._closed:
                raise SandboxUsageError("the sandbox is closed: make another one")
            if self._engine is not None:
                return
            self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="forethought-docker")
            try:
                self._engine = await self._call(Engine, self._docker_host)
                await self._call(self._engine.require, self._runtime)
                await self._call(self._engine.remove_orphans)
                self._image = await self._call(self._engine.image, *self._wanted)
                self._ready.append(await self._launch())
            except BaseException:
                await self._disconnect()
                raise
            self._refill()

    def describe(self) -> Mapping[str, str]:
        """Backend, tier and the means that hold each limit."""
        if self._engine is None:
            return {"backend": "docker", "state": "not started"}
        facts = self._engine.information
        return {
            "backend": "docker",
            "tier": self._runtime or str(facts.get("DefaultRuntime", "")),
            "engine": str(facts.get("ServerVersion", "")),
            "kernel": str(facts.get("KernelVersion", "")),
            "image": self._image,
            "network": "none",
            "system calls": "runsc's own kernel" if self._runtime == "runsc" else "seccomp allow-list",
            "memory": f"cgroup v{facts.get('CgroupVersion', '1')}, no swap",
            "processes": f"cgroup v{facts.get('CgroupVersion', '1')}",
            "disk": "tmpfs with size and inode quota, counted as memory",
            "time": "process 1 of the container, and the host behind it",
        }

    async def open(self) -> DockerSession:
        """A session in a container that nothing has run in."""
        session = DockerSession(self, await self.take())
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Destroy all sessions and spares."""
        self._closed = True
        async with self._starting:
            while self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            try:
                await asyncio.gather(*(session.close() for session in list(self._sessions)))
                while self._ready:
                    await self.discard(self._ready.popleft())
            finally:
                await self._disconnect()

    async def take(self) -> Container:
        """A container that nothing has run in: a spare, else a new one."""
        await self.start()
        while self._ready:
            container = self._ready.popleft()
            self._refill()
            if container.channel.broken is None and container.expires > time.monotonic():
                return container
            await self.discard(container)
        return await self._launch()

    async def discard(self, container: Container) -> None:
        """Destroy a container; done when it is gone."""
        container.channel.close()
        await self._remove(container.identifier)

    async def answers(self) -> bool:
        """Whether the engine is still there."""
        return self._engine is not None and await self._call(self._engine.answers)

    def forget(self, session: DockerSession) -> None:
        """The session is closed."""
        self._sessions.discard(session)

    async def _launch(self) -> Container:
        assert self._engine is not None
        options = ContainerOptions(
            limits=self.limits,
            image=self._image,
            runtime=self._runtime,
            cpus=self._cpus,
            labels={**self._labels, **owner_labels(self.run_id, self._lifetime)},
        )
        # Shielded: a container whose launch is abandoned half-way must still be found and removed.
        launching = asyncio.ensure_future(self._call(self._engine.launch, options))
        try:
            identifier, stream = await asyncio.shield(launching)
        except asyncio.CancelledError:
            self._spawn(self._undo(launching))
            raise
        channel = Channel()
        container = Container(identifier, channel, time.monotonic() + self._lifetime / 2)
        try:
            await asyncio.get_running_loop().create_connection(lambda: channel, sock=stream)
            await channel.first(_START_SECONDS)
        except (ChannelBroken, TimeoutError, OSError) as error:
            await self.discard(container)
            raise SandboxUnavailable(
                f"the sandbox's interpreter did not start: {channel.noise[-500:] or error or 'no answer'}"
            ) from error
        except BaseException:
            self._spawn(self.discard(container))
            raise
        return container

    async def _undo(self, launching: asyncio.Future[Any]) -> None:
        identifier, stream = await launching
        stream.close()
        await self._remove(identifier)

    async def _remove(self, identifier: str) -> None:
        if self._engine is None:
            return
        try:
            await self._call(self._engine.remove, identifier)
        except SandboxUnavailable as error:
            _log.warning("%s; it ends with its stream, and the next start removes what is left of it", error)

    def _refill(self) -> None:
        while not self._closed and len(self._ready) + self._filling < self._spares:
            self._filling += 1
            self._spawn(self._add_spare())

    async def _add_spare(self) -> None:
        try:
            self._ready.append(await self._launch())
        except SandboxUnavailable as error:
            _log.warning("no spare sandbox: %s", error)  # whoever needs one makes one, and is told why not
        finally:
            self._filling -= 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        call = functools.partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _disconnect(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)


def remove_orphans(docker_host: str | None = None) -> int:
    """Remove the containers of runs that no longer exist; give their number. `DockerSandbox.start` does it too.

    Raises:
        SandboxUnavailable: no engine answers.
    """
    engine = Engine(docker_host)
    try:
        return engine.remove_orphans()
    finally:
        engine.close()
