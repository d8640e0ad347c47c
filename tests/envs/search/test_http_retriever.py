"""The HTTP retriever, against a real server on this machine."""

import asyncio
import contextlib
import copy
import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from forethought.envs.search import Hit, HttpRetriever, Passage, Retriever, RetrieverError, http_retriever
from forethought.sandboxes.faults import InfrastructureFault

Answer = Callable[[str, dict[str, Any]], tuple[int, bytes]]
"""(path, JSON body) -> (status, body of the answer)."""


class Server:
    """A server whose answers a test sets; it keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = lambda path, body: (200, b'{"hits": []}')
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.received.append((self.path, body))
                server.headers.append(dict(self.headers.items()))
                status, data = server.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test's output clean."""

        class Listener(ThreadingHTTPServer):
            request_queue_size = 64

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(http_retriever, "_FIRST_PAUSE_S", 0.01)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def reply(value: Any, status: int = 200) -> Answer:
    return lambda path, body: (status, json.dumps(value).encode())


async def test_simple_shape(server: Server) -> None:
    rows = [{"id": "a", "title": "T", "text": "x" * 400, "score": 2}, {"id": 7, "text": "short", "score": 1.5}]
    server.answer = reply({"hits": rows})
    retriever: Retriever = HttpRetriever(f"{server.url}/search", headers={"Authorization": "Bearer k"})
    hits = await retriever.search("who?", 2)
    assert hits == [Hit("a", "T", "x" * 300 + "...", 2.0), Hit("7", "", "short", 1.5)]
    assert await retriever.search("who?", 1) == hits[:1]
    assert server.received[0] == ("/search", {"query": "who?", "k": 2})
    assert server.headers[0]["Authorization"] == "Bearer k"


async def test_simple_shape_opens(server: Server) -> None:
    server.answer = reply({"passage": {"id": "a", "title": "T", "text": "whole"}})
    retriever = HttpRetriever(server.url)
    assert await retriever.open("T") == Passage("a", "T", "whole")
    assert server.received == [("/", {"open": "T"})]
    server.answer = reply({"passage": None})
    assert await retriever.open("U") is None


async def test_opensearch_shape(server: Server) -> None:
    documents = {"1": {"title": "Heidi II", "text": "Later."}, "2": {"title": "Heidi", "text": "By Spyri."}}

    def search(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        assert path == "/wiki/_search"
        match body["query"]:
            case {"ids": {"values": [identity]}}:
                found = [identity] if identity in documents else []
            case _:
                found = list(documents)
        rows = [{"_id": identity, "_score": 1.5, "_source": documents[identity]} for identity in found]
        return 200, json.dumps({"took": 1, "hits": {"total": {"value": len(rows)}, "hits": rows}}).encode()

    server.answer = search
    retriever = HttpRetriever(f"{server.url}/wiki/", shape="opensearch")
    assert await retriever.search("spyri", 1) == [Hit("1", "Heidi II", "Later.", 1.5)]
    _, asked = server.received[0]
    assert asked["size"] == 1
    assert asked["query"]["multi_match"]["query"] == "spyri"
    assert await retriever.open("2") == Passage("2", "Heidi", "By Spyri.")
    assert await retriever.open(" heidi") == Passage("2", "Heidi", "By Spyri.")
    assert await retriever.open("Hei") is None


@pytest.mark.parametrize("query", ["", " \n", '"', "\ud800", "日本", "AND OR (", "x" * 1_000_000, "\0"])
async def test_any_text_is_a_query(server: Server, query: str) -> None:
    assert await HttpRetriever(server.url).search(query, 3) == []
    assert all(len(body["query"]) <= 10_000 for _, body in server.received)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_passing_trouble_is_retried(server: Server, status: int) -> None:
    server.answer = lambda path, body: (status if len(server.received) < 3 else 200, b'{"hits": []}')
    assert await HttpRetriever(server.url).search("a", 1) == []
    assert len(server.received) == 3


async def test_lasting_trouble_is_an_infrastructure_fault(server: Server) -> None:
    server.answer = reply({}, 503)
    with pytest.raises(InfrastructureFault, match=r"no answer in 2 attempts: .*503"):
        await HttpRetriever(server.url, attempts=2).search("a", 1)
    assert len(server.received) == 2


async def test_no_server_is_an_infrastructure_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_retriever, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(InfrastructureFault, match=f"127.0.0.1:{port}.*no answer in 3 attempts"):
        await HttpRetriever(f"http://127.0.0.1:{port}").open("a")


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_is_told_at_once(server: Server, status: int) -> None:
    server.answer = lambda path, body: (status, b"no such index [wiki]" + b"x" * 10_000)
    with pytest.raises(RetrieverError, match=rf"HTTP status {status}: no such index \[wiki\]") as caught:
        await HttpRetriever(server.url).search("a", 1)
    assert len(server.received) == 1
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"hits": {}}',
        b'{"hits": [3]}',
        b'{"hits": [{"id": "a", "text": "t"}]}',
        b'{"hits": [{"id": "a", "score": 1}]}',
        b'{"hits": [{"id": "a", "text": null, "score": 1}]}',
        b'{"hits": {"hits": [{"_id": "a", "_score": 1}]}}',
        b'{"hits": {"hits": [{"_id": "a", "_score": null, "_source": {"text": "t"}}]}}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("shape", ["simple", "opensearch"])
async def test_another_shape_is_told_at_once(server: Server, shape: Any, answer: bytes) -> None:
    server.answer = lambda path, body: (200, answer)
    retriever = HttpRetriever(server.url, shape=shape)
    with pytest.raises(RetrieverError, match="Expected"):
        await retriever.search("a", 1)
    if answer == b"{}":
        with pytest.raises(RetrieverError, match="Expected"):
            await retriever.open("a")


async def test_a_slow_server_is_an_infrastructure_fault(server: Server) -> None:
    def slow(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        time.sleep(0.5)
        return 200, b'{"hits": []}'

    server.answer = slow
    start = time.perf_counter()
    with pytest.raises(InfrastructureFault, match="timed out"):
        await HttpRetriever(server.url, timeout_s=0.1, attempts=1).search("a", 1)
    assert time.perf_counter() - start < 0.45


async def test_requests_overlap(server: Server) -> None:
    def slow(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        time.sleep(0.2)
        return 200, b'{"hits": []}'

    server.answer = slow
    retriever = HttpRetriever(server.url)
    start = time.perf_counter()
    await asyncio.gather(*(retriever.search("a", 1) for _ in range(20)))
    assert time.perf_counter() - start < 2


async def test_copies_and_pickles_ask_the_same_server(server: Server) -> None:
    retriever = HttpRetriever(server.url)
    await retriever.search("a", 1)
    for other in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert await other.search("a", 1) == []


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"http:// or https://, found 'localhost:9200'"):
        HttpRetriever("localhost:9200")
    with pytest.raises(ValueError, match="timeout_s above 0 and attempts of 1 or more, found 0 and 3"):
        HttpRetriever("http://x", timeout_s=0)
    with pytest.raises(ValueError, match="'simple' or 'opensearch', found 'solr'"):
        HttpRetriever("http://x", shape="solr")  # type: ignore[arg-type]
