"""Serve sandboxes of this machine over HTTP.

    python -m forethought.sandboxes.remote --host 0.0.0.0 --port 8700 --token-file tokens

The token file has one token a line; lines that begin with `#` are comments. SIGTERM and SIGINT end the server: it takes
no more sessions, waits for the runs that are on their way, and destroys everything.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..backends import LOCAL_BACKENDS, make_sandbox
from ..sandbox import Limits

try:
    from aiohttp import web

    from .registry import Registry
    from .server import MIN_TOKEN, Service
except ModuleNotFoundError as error:
    raise SystemExit(f"this needs {error.name}, which is not installed: pip install 'forethought[remote]'") from None

CEILING = Limits(wall_seconds=600.0, cpu_seconds=3600.0, memory_bytes=4 * 2**30, disk_bytes=2**30, inodes=65536)
"""What clients may ask for unless `--limit` says otherwise; the limits not named here are `Limits`' own."""


class Mistake(Exception):
    """The command line asks for something that cannot be; one sentence."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m forethought.sandboxes.remote",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=int, default=8700, help="0 takes a free one (default: %(default)s)")
    add("--token-file", type=Path, help=f"one token a line, {MIN_TOKEN} characters or more")
    add("--backend", default="embedded", choices=LOCAL_BACKENDS, help="(default: %(default)s)")
    add("--max-sessions", type=int, default=256, help="at the same time (default: %(default)s)")
    add("--max-sessions-per-token", type=int, help="at the same time (default: as many as --max-sessions)")
    add("--max-body-mb", type=int, default=64, help="MiB of a request (default: %(default)s)")
    add("--idle-seconds", type=float, default=900.0, help="after which a session is closed (default: %(default)s)")
    add("--shutdown-seconds", type=float, default=30.0, help="that runs have when it ends (default: %(default)s)")
    add(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="the most that a client may ask for: " + ", ".join(f"{name}={value}" for name, value in _limits(CEILING)),
    )
    return result


def _limits(limits: Limits) -> list[tuple[str, float]]:
    return [(item.name, getattr(limits, item.name)) for item in fields(Limits)]


def read_ceiling(settings: Sequence[str]) -> Limits:
    """`CEILING` with the settings of the command line."""
    values = dict(_limits(CEILING))
    for setting in settings:
        name, _, number = setting.partition("=")
        if name not in values:
            raise Mistake(f"--limit {setting}: there is no limit {name!r}; there are {', '.join(values)}")
        try:
            values[name] = type(values[name])(number)
        except ValueError:
            raise Mistake(f"--limit {setting}: {number!r} is no {type(values[name]).__name__}") from None
    return Limits(**values)  # type: ignore[arg-type]


def read_tokens(file: Path | None, host: str) -> list[str]:
    """The tokens; without any, only this machine may come in."""
    if file is None:
        if not _is_loopback(host):
            raise Mistake(f"listening on {host} needs --token-file: whoever reaches the server could run code on it")
        return []
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"--token-file {file} cannot be read: {error}") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise Mistake(f"--token-file {file} holds no token: write one a line")
    if any(len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() for token in tokens):
        raise Mistake(f"--token-file {file}: a token needs at least {MIN_TOKEN} characters, all of them plain ASCII")
    return tokens


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    tokens = read_tokens(options.token_file, options.host)
    registry = Registry(
        lambda limits: make_sandbox(options.backend, limits),
        read_ceiling(options.limit),
        max_sessions=options.max_sessions,
        max_sessions_per_token=options.max_sessions_per_token or options.max_sessions,
        idle_seconds=options.idle_seconds,
    )
    service = Service(registry, tokens=tokens, max_body_bytes=options.max_body_mb << 20)
    # A client that is cut off must not hold its session for as long as its run takes.
    runner = web.AppRunner(
        service.application(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=options.shutdown_seconds,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port)
        try:
            await site.start()
        except OSError as error:
            raise Mistake(f"cannot listen on {options.host}:{options.port}: {error}") from None
        host, port = runner.addresses[0][:2]
        print(
            f"serving {options.backend} sandboxes on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True
        )
        await stopped.wait()
        registry.closing = True
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(parser().parse_args(arguments)))
    except Mistake as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
