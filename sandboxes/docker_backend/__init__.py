"""The Docker backend of the sandbox interface. Needs the extra `forethought[docker]` and a Docker engine."""

from .sandbox import DockerSandbox, remove_orphans

__all__ = ["DockerSandbox", "remove_orphans"]
