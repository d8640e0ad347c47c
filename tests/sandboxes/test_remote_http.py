"""The server of the remote sandbox as anybody may ask it: its document, and requests that are wrong."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("aiohttp", reason="the remote sandbox needs the extra `remote`")

import aiohttp

from forethought.sandboxes.remote.__main__ import main

from .conftest import started
from .remote_server import TOKEN, served


@pytest.fixture(autouse=True)
async def embedded() -> None:
    await (await started("namespaces", spares=0)).close()  # Or a skip.


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served("--max-body-mb", "1", folder=tmp_path_factory.mktemp("server")) as (url, _):
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


async def opened(client: Any) -> str:
    path = f"/v1/sessions/{secrets.token_hex(16)}"
    async with client.put(path, json={"limits": {}}) as response:
        assert response.status == 204
    return path


async def test_health_and_document_need_no_token(url: str) -> None:
    async with aiohttp.ClientSession(url) as client:
        async with client.get("/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with client.get("/openapi.json") as response:
            document = await response.json()
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert all("#/components/schemas/" in text for text in references(document))


def references(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from (value for name, value in content.items() if name == "$ref")
    for item in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from references(item)


async def test_the_document_says_what_is_there(client: Any) -> None:
    """Every operation of it answers, with what it says, to what it says."""
    async with client.get("/openapi.json") as response:
        document = await response.json()
    session = await opened(client)
    bodies: dict[str, dict[str, Any]] = {
        "prepare": {"json": {"limits": {}}},
        "open": {"json": {"limits": {}}},
        "run_cell": {"json": {"code": "print(1); 2"}},
        "run_program": {"json": {"arguments": ["true"], "stdin": "aGk=", "environment": {}, "timeout": 2}},
        "put_file": {"data": b"content", "params": {"path": "f"}},
        "get_file": {"params": {"path": "f"}},
    }
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda item: (item[2]["operationId"] == "close", item[0] == "get"))
    for number, (method, path, operation) in enumerate(operations):
        where = path.replace("/v1/sessions/{session}", session)
        arguments = bodies.get(operation["operationId"], {})
        headers = {"Idempotency-Key": str(number)}
        async with client.request(method, where, headers=headers, **arguments) as response:
            said = operation["responses"][str(response.status)]
            assert response.status in (200, 204), (operation, await response.text())
            for kind, body in said.get("content", {}).items():
                assert response.content_type == kind
                if kind == "application/json":
                    whole = {**body["schema"], "components": document["components"]}
                    jsonschema.validate(await response.json(), whole)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"code": 1}',
        b'{"code": "1", "timeout": NaN}',
        b'{"code": "1", "timeout": "soon"}',
        b'{"code": "1", "more": 1}',
        b"{}",
    ],
)
async def test_bodies_that_are_wrong_are_refused(client: Any, body: bytes) -> None:
    session = await opened(client)
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    async with client.post(f"{session}/cell", data=body, headers=headers) as response:
        refusal = await response.json()
        assert response.status == 400 and refusal["kind"] == "bad_request" and 0 < len(refusal["error"]) < 500
    async with client.post(f"{session}/cell", json={"code": "1"}, headers=headers) as response:
        assert (await response.json())["value"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/sessions", 404),
        ("PATCH", "/health", 405),
        ("DELETE", "/v1/sessions/short", 400),
        ("GET", f"/v1/sessions/{'0' * 32}/files", 404),
        ("POST", f"/v1/sessions/{'0' * 32}/cell", 404),
        ("DELETE", f"/v1/sessions/{'0' * 32}", 204),
        ("GET", "{session}/file", 400),
        ("GET", "{session}/file?path=f&max_bytes=-1", 400),
        ("GET", "{session}/file?path=f", 422),
        ("PUT", "{session}/file?path=f", 400),
        ("POST", "{session}/reset", 400),
    ],
)
async def test_requests_that_are_wrong_are_refused(client: Any, method: str, path: str, status: int) -> None:
    session = await opened(client)
    async with client.request(method, path.replace("{session}", session)) as response:
        assert response.status == status
        if status != 204:
            assert set(await response.json()) == {"kind", "error"}


async def test_a_body_that_is_too_large_is_refused(client: Any) -> None:
    session = await opened(client)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    headers = {"Idempotency-Key": "1"}
    try:
        async with client.put(f"{session}/file", params={"path": "f"}, data=pieces(), headers=headers) as response:
            assert response.status == 413
    except aiohttp.ClientError:
        pass  # The server hung up before everything was sent.
    async with client.get(f"{session}/files") as response:
        assert await response.json() == {"files": []}


async def test_forms_of_other_sites_are_refused(client: Any) -> None:
    session = await opened(client)
    async with client.post(f"{session}/cell", data=json.dumps({"code": "1"})) as response:
        assert response.status == 400 and "application/json" in (await response.json())["error"]


async def test_an_operation_runs_once_and_an_older_one_not_at_all(client: Any) -> None:
    session = await opened(client)

    async def run(key: int, code: str) -> tuple[int, Any]:
        headers = {"Idempotency-Key": str(key)}
        async with client.post(f"{session}/cell", json={"code": code}, headers=headers) as response:
            return response.status, await response.json()

    await run(1, "n = 0")
    same = await asyncio.gather(*(run(2, "import time; time.sleep(0.1); n += 1; n") for _ in range(5)))
    assert [body["value"] for _, body in same] == ["1"] * 5
    assert (await run(1, "n = 0"))[0] == 409
    assert (await run(3, "n"))[1]["value"] == "1"
    slow = asyncio.ensure_future(run(4, "import time; time.sleep(9)"))
    await asyncio.sleep(0.2)
    assert (await run(5, "n"))[1]["status"] == "killed"
    assert (await slow)[0] == 409


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "needs --token-file"),
        (["--host", "::"], "needs --token-file"),
        (["--host", "example.org"], "needs --token-file"),
        (["--token-file", "/nowhere/tokens"], "cannot be read"),
        (["--limit", "speed=3"], "there is no limit 'speed'"),
        (["--limit", "processes=many"], "'many' is no int"),
        (["--host", "127.0.0.1", "--port", "1", "--token-file", "{short}"], "at least 16 characters"),
        (["--host", "0.0.0.0", "--token-file", "{empty}"], "holds no token"),
    ],
)
def test_a_command_that_cannot_be_is_said(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "empty").write_text("# nothing\n\n")
    words = [word.format(short=tmp_path / "short", empty=tmp_path / "empty") for word in arguments]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
