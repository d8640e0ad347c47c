"""What the clients of other people's services share: checks that are made here, since nobody there makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..sandbox import SandboxUsageError


def check_path(path: str) -> str:
    """A relative path below the work folder, without `.` parts.

    Raises:
        SandboxUsageError: it is none.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or "\0" in path or ".." in parts or not parts or not _is_text(path):
        raise SandboxUsageError(f"{path!r} is not a relative path below the work folder")
    return "/".join(parts)


def check_program(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises: SandboxUsageError: these cannot be given to a program."""
    words = [*arguments, *environment, *environment.values()]
    if isinstance(arguments, str) or not arguments or not arguments[0]:
        raise SandboxUsageError("a program needs a sequence of arguments, its name first")
    if any("\0" in word for word in words) or any("=" in name or not name for name in environment):
        raise SandboxUsageError("arguments and environment must not hold NUL, nor a variable's name '='")
    if not all(map(_is_text, words)):
        raise SandboxUsageError("arguments and environment must be text: lone surrogates are none")


def cut(text: str, limit: int) -> tuple[str, bool]:
    """The head and the tail of what is longer than `limit` bytes, and whether anything was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode(), False
    head, tail = data[: limit - limit // 2], data[len(data) - limit // 2 :]
    middle = f"\n... {len(data) - limit} bytes cut ...\n"
    return head.decode("utf-8", "replace") + middle + tail.decode("utf-8", "replace"), True


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
