"""The Docker engine: hardened containers made, attached to and removed. Blocking; callers use threads."""

from __future__ import annotations

import importlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..faults import SandboxUnavailable
from ..sandbox import Limits
from .image import DEFAULT_BASE, check_image, ensure_image
from .owner import MARK, is_orphan

FLOOD_BYTES = 64 * 2**20
"""What one run may write before it is ended; the supervisor reads that much and keeps little of it."""
_OWN_PROCESSES = 2  # the supervisor, and the process above a program
_OWN_FILES = 32
_SILENT = "no Docker engine answers at {}: start one, or set DOCKER_HOST"
_SECCOMP = Path(__file__).parent / "seccomp.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """What all containers of one sandbox have in common."""

    limits: Limits
    image: str
    runtime: str | None
    cpus: float
    labels: Mapping[str, str]


class Engine:
    """One connection to a Docker engine."""

    def __init__(self, docker_host: str | None = None) -> None:
        """Connect.

        Args:
            docker_host: The engine's address; DOCKER_HOST or the default socket when it is None.

        Raises:
            SandboxUnavailable: the SDK is missing, or no engine answers.
        """
        try:
            docker: Any = importlib.import_module("docker")
        except ImportError as error:
            raise SandboxUnavailable(
                "the Docker backend needs the docker package: pip install 'forethought[docker]'"
            ) from error
        self.errors: Any = importlib.import_module("docker.errors")
        where = docker_host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        try:
            _knock(where)
            self.client: Any = docker.DockerClient(docker_host) if docker_host else docker.from_env()
        except (self.errors.DockerException, OSError) as error:
            raise SandboxUnavailable(_SILENT.format(where)) from error
        try:
            self.information: dict[str, Any] = self.client.info()
        except (self.errors.DockerException, OSError) as error:
            self.client.close()
            raise SandboxUnavailable(_SILENT.format(where)) from error

    def require(self, runtime: str | None) -> None:
        """Check that the engine can hold every limit.

        Raises:
            SandboxUnavailable: it cannot; the sentence says which.
        """
        if self.information.get("OSType") != "linux":
            raise SandboxUnavailable("the Docker engine runs no Linux containers")
        for key, what in (("MemoryLimit", "memory"), ("PidsLimit", "processes"), ("CpuCfsQuota", "CPU time")):
            if not self.information.get(key):
                raise SandboxUnavailable(f"this Docker engine cannot limit {what} (no such cgroup controller)")
        if runtime is not None and runtime not in self.information.get("Runtimes", {}):
            raise SandboxUnavailable(f"the Docker engine has no runtime {runtime!r}: install it and register it")
        if not any("seccomp" in option for option in self.information.get("SecurityOptions") or []):
            raise SandboxUnavailable("this Docker engine has no seccomp")

    def image(self, image: str | None, base: str | None) -> str:
        """The image to run: a given one, or one built from a base."""
        if image is not None:
            return check_image(self.client, self.errors, image)
        return ensure_image(self.client, self.errors, base or DEFAULT_BASE)

    def launch(self, options: ContainerOptions) -> tuple[str, socket.socket]:
        """Start a container; give its id and the socket of its attach stream.

        Raises:
            SandboxUnavailable: the engine refused.
        """
        container = None
        try:
            container = self._create(options)
            stream = self._attach(container)
            try:
                self.client.api.start(container)
            except BaseException:
                stream.close()
                raise
        except (self.errors.DockerException, OSError) as error:
            if container is not None:
                self.remove(container)
            raise SandboxUnavailable(f"the Docker engine could not start a sandbox: {error}") from error
        return container, stream

    def remove(self, container: str) -> None:
        """Kill and remove a container, if there is still anything to remove."""
        try:
            self.client.api.remove_container(container, force=True, v=True)
        except self.errors.APIError as error:
            if error.status_code not in (404, 409):  # it removes itself too: gone, or going
                raise SandboxUnavailable(f"the Docker engine could not remove a sandbox: {error}") from error
        except (self.errors.DockerException, OSError) as error:
            raise SandboxUnavailable(f"the Docker engine stopped answering: {error}") from error

    def answers(self) -> bool:
        """Whether the engine is still there."""
        try:
            return bool(self.client.ping())
        except (self.errors.DockerException, OSError):
            return False

    def remove_orphans(self) -> int:
        """Remove what runs that no longer exist have left; give their number."""
        removed = 0
        try:
            found = self.client.api.containers(all=True, filters={"label": MARK})
        except (self.errors.DockerException, OSError) as error:
            raise SandboxUnavailable(f"the Docker engine stopped answering: {error}") from error
        for entry in found:
            if is_orphan(entry.get("Labels") or {}):
                self.remove(entry["Id"])
                removed += 1
        return removed

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _create(self, options: ContainerOptions) -> str:
        limits, api = options.limits, self.client.api
        config = {
            "output_bytes": limits.output_bytes,
            "value_bytes": limits.value_bytes,
            "cpu_seconds": limits.cpu_seconds,
            "flood_bytes": FLOOD_BYTES,
        }
        limit_files = limits.open_files + _OWN_FILES
        host = api.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true", "seccomp=" + _SECCOMP.read_text()],
            pids_limit=limits.processes + _OWN_PROCESSES,
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            cpu_period=100_000,
            cpu_quota=int(options.cpus * 100_000),
            # One file system for the work folder (/tmp/work) and /tmp: together they hold what the limits say.
            # Locks of multiprocessing need a /dev/shm, which no IPC namespace brings here.
            tmpfs={
                "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.disk_bytes},nr_inodes={limits.inodes}",
                "/dev/shm": "rw,noexec,nosuid,nodev,mode=1777,size=1048576,nr_inodes=64",
            },
            ipc_mode="none",
            ulimits=[
                {"Name": "nofile", "Soft": limit_files, "Hard": limit_files},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            log_config={"Type": "none"},
            auto_remove=True,  # a host killed with -9 closes the stream, process 1 ends, the engine cleans up
            runtime=options.runtime,
            cgroupns="private",
        )
        answer = api.create_container(
            options.image,
            command=[json.dumps(config)],
            hostname="sandbox",
            user="1000:1000",
            working_dir="/tmp",
            stdin_open=True,
            network_disabled=True,
            labels=dict(options.labels),
            host_config=host,
        )
        return str(answer["Id"])

    def _attach(self, container: str) -> socket.socket:
        wrapped = self.client.api.attach_socket(
            container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
        )
        owners = [getattr(wrapped, "_response", None), wrapped, getattr(wrapped, "_sock", None)]
        try:
            if self.client.api.base_url.startswith("https"):
                raise SandboxUnavailable(
                    "the attach stream of an engine behind TLS cannot be used: give a unix:// or plain tcp:// address"
                )
            return socket.socket(fileno=os.dup(wrapped.fileno()))
        finally:
            for owner in owners:
                if owner is not None:
                    owner.close()


def _knock(where: str) -> None:
    """Fail early where no engine listens: the SDK would leave its socket open."""
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(where.removeprefix("unix://"))
