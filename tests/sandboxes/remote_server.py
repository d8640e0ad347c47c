"""A real sandbox server in a process of its own, and a network in between that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

TOKEN = "a-token-for-tests-only"


@contextmanager
def served(*options: str, folder: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server's URL and process; with `folder`, it wants `TOKEN`."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the server of these tests uses the embedded sandbox, which needs Linux")
    if folder is not None:
        (folder / "tokens").write_text(f"# of the tests\n{TOKEN}\nanother-token-for-tests\n")
        options = (*options, "--token-file", str(folder / "tokens"))
    if "--port" not in options:
        options = (*options, "--port", "0")
    command = [sys.executable, "-m", "forethought.sandboxes.remote", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        process.stdout.close()


class Network:
    """Between a client and a server: each direction can be slowed, and connections cut at a chosen moment."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.requests = 0
        """Connections on which something was sent."""
        self.piece = 1 << 16
        self.pause = 0.0
        self.cut_answers = 0
        """So many answers are thrown away, and their connections closed, after the server has made them."""
        self._writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, there}
        await asyncio.gather(self._pump(reader, there, answer=False), self._pump(back, writer, answer=True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(self.piece):
                if answer and self.cut_answers:
                    self.cut_answers -= 1
                    break
                self.requests += not answer
                await asyncio.sleep(self.pause)
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@asynccontextmanager
async def network(url: str) -> AsyncIterator[Network]:
    between = Network(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(between._serve, "127.0.0.1", 0)
    between.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield between
    finally:
        server.close()
        for writer in between._writers:
            writer.close()
        await asyncio.sleep(0.01)
