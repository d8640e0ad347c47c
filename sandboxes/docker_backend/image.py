"""The image of the sandbox: this package's supervisor on top of a base that the user chooses."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from ..faults import SandboxUnavailable

DEFAULT_BASE = "python:3.11-slim"
GUEST_LABEL = "forethought.guest"
_FOLDER = Path(__file__).parent


def guest_files() -> dict[str, bytes]:
    """What goes into the build: the Dockerfile and the supervisor's sources."""
    paths = [_FOLDER / "Dockerfile", *sorted((_FOLDER / "guest").glob("*.py"))]
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in paths}


def guest_version() -> str:
    """Changes with every change of the supervisor: host and supervisor speak one version of their protocol."""
    digest = hashlib.sha256()
    for name, data in guest_files().items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def ensure_image(client: Any, errors: Any, base: str) -> str:
    """Build the image for a base unless it is there; give its tag.

    Args:
        client: A `docker.DockerClient`.
        errors: The `docker.errors` module.
        base: An image with `python3` on its PATH; taken from the engine, else from its registry.

    Raises:
        SandboxUnavailable: the base cannot be had, or the build fails.
    """
    try:
        try:
            found = client.images.get(base)
        except errors.ImageNotFound:
            found = client.images.pull(*base.rsplit(":", 1)) if ":" in base else client.images.pull(base, "latest")
    except errors.DockerException as error:
        raise SandboxUnavailable(
            f"the base image {base!r} is not in the Docker engine and cannot be pulled ({_sentence(error)}); "
            "load it with `docker load` or `docker import`, or give another base_image"
        ) from error
    tag = f"forethought-sandbox:{guest_version()}-{found.id.rpartition(':')[2][:12]}"
    try:
        try:
            client.images.get(tag)
        except errors.ImageNotFound:
            client.images.build(
                fileobj=_context(),
                custom_context=True,
                buildargs={"BASE": base},
                tag=tag,
                labels={GUEST_LABEL: guest_version()},
                network_mode="none",
                rm=True,
            )
    except errors.DockerException as error:
        raise SandboxUnavailable(f"the sandbox image cannot be built from {base!r}: {_sentence(error)}") from error
    return tag


def check_image(client: Any, errors: Any, image: str) -> str:
    """Check an image that was built elsewhere.

    Raises:
        SandboxUnavailable: it is not there or holds no supervisor, or that of another version.
    """
    try:
        labels = client.images.get(image).labels
    except errors.DockerException as error:
        raise SandboxUnavailable(
            f"the Docker engine has no image {image!r}; give base_image to have one built"
        ) from error
    if labels.get(GUEST_LABEL) != guest_version():
        raise SandboxUnavailable(
            f"the image {image!r} was not built by this version of Forethought; give it as base_image instead"
        )
    return image


def _context() -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in guest_files().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(data))
    archive.seek(0)
    return archive


def _sentence(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
