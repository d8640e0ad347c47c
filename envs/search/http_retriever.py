"""A retriever behind HTTP: an OpenSearch index, or any small server that speaks one JSON shape."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

from ...sandboxes.faults import InfrastructureFault
from .index_files import title_key
from .passages import Passage, clean, shorten
from .retriever import Hit

_QUERY_CHARS = 10_000
_MOST_BYTES = 64 << 20
_REQUESTS_AT_ONCE = 32
_FIRST_PAUSE_S = 0.25
_TITLE_WEIGHT = 0.3
_TITLE_CANDIDATES = 20


class RetrieverError(RuntimeError):
    """The server was reached and does not do what was asked: the address, key or shape is wrong. Not retried."""


class HttpRetriever:
    """A `Retriever` that posts JSON to `url`, in one of two shapes.

    - `simple`: `{"query", "k"}` is answered by `{"hits": [{"id", "title"?, "text", "score"}, ...]}`, and
      `{"open": id or title}` by `{"passage": {"id", "title"?, "text"} or null}`;
    - `opensearch`: `url` is an index (`http://host:9200/wiki`) whose documents have `title` and `text`; it is asked
      by `_search` (Elasticsearch answers the same).

    A request that fails by the network, a time-out, or the statuses 429 and 5xx is repeated, `attempts` times in all,
    with pauses of 0.25 s, 0.5 s, 1 s, ...; then it is an `InfrastructureFault`. Other statuses and answers of another
    shape are a `RetrieverError` at once. Of a query the first 10,000 characters count.
    """

    def __init__(
        self,
        url: str,
        *,
        shape: Literal["simple", "opensearch"] = "simple",
        timeout_s: float = 10.0,
        attempts: int = 3,
        headers: Mapping[str, str] | None = None,
        snippet_chars: int = 300,
    ) -> None:
        """Nothing is sent yet. `headers` (an API key) go with each request; `timeout_s` bounds each attempt."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"Expected the retriever's url to start with http:// or https://, found {url!r}.")
        if shape not in ("simple", "opensearch"):
            raise ValueError(f"Expected shape to be 'simple' or 'opensearch', found {shape!r}.")
        if timeout_s <= 0 or attempts < 1:
            raise ValueError(f"Expected timeout_s above 0 and attempts of 1 or more, found {timeout_s} and {attempts}.")
        self.shape, self.timeout_s, self.attempts, self.snippet_chars = shape, timeout_s, attempts, snippet_chars
        self.url = url if shape == "simple" else f"{url.rstrip('/')}/_search"
        self.headers = {"Content-Type": "application/json", **(headers or {})}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_threads"}

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` passages as the server ranks them.

        Raises:
            ValueError: `k` is below 1.
            InfrastructureFault, RetrieverError: see the class.
        """
        if k < 1:
            raise ValueError(f"Expected k, the number of passages to find, to be 1 or more, found {k}.")
        text = clean(query[:_QUERY_CHARS])
        if not text.strip():
            return []
        if self.shape == "simple":
            answer = await self._post({"query": text, "k": k})
            found = [(_number(row, "score"), _passage(row)) for row in _list(answer, "hits")]
        else:
            fields = ["text", f"title^{_TITLE_WEIGHT}"]
            asked = {"multi_match": {"query": text, "fields": fields, "type": "most_fields"}}
            found = await self._opensearch(asked, k, sort=[{"_score": "desc"}])
        return [Hit(p.id, p.title, self._snippet(p.text), score) for score, p in found[:k]]

    async def open(self, id_or_title: str) -> Passage | None:
        """The passage with this id, else the first one with this title, else None. Raises as `search` does."""
        name = clean(id_or_title[:_QUERY_CHARS])
        if not name.strip():
            return None
        if self.shape == "simple":
            answer = await self._post({"open": name})
            if "passage" not in answer:
                raise RetrieverError(f'Expected {{"passage": ...}} from {self.url}, found {shorten(answer)}.')
            return None if answer["passage"] is None else _passage(answer["passage"])
        if by_id := await self._opensearch({"ids": {"values": [name]}}, 1):
            return by_id[0][1]
        similar = await self._opensearch({"match_phrase": {"title": name}}, _TITLE_CANDIDATES)
        return next((p for _, p in similar if title_key(p.title) == title_key(name)), None)

    async def _opensearch(self, query: dict[str, Any], size: int, **more: Any) -> list[tuple[float, Passage]]:
        answer = await self._post({"query": query, "size": size, "_source": ["title", "text"], **more})
        hits = answer.get("hits")
        if not isinstance(hits, dict):
            raise RetrieverError(f'Expected {{"hits": {{"hits": [...]}}}} from {self.url}, found {shorten(answer)}.')
        found = []
        for row in _list(hits, "hits"):
            source = row.get("_source") if isinstance(row, dict) else None
            if not isinstance(source, dict):
                raise RetrieverError(f'Expected hits with "_id" and "_source", found {shorten(row)}.')
            found.append((_number(row, "_score"), _passage({**source, "id": row.get("_id")})))
        return found

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers to `body`, after as many attempts as allowed."""
        data = json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                raw = await loop.run_in_executor(self._threads, self._request, data)
            except (OSError, http.client.HTTPException) as error:
                last = error
            else:
                return self._decoded(raw)
        times = f"{self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        raise InfrastructureFault(f"The retriever at {self.url} gave no answer in {times}: {last!r}.") from last

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="retriever")

    def _request(self, data: bytes) -> bytes:
        """One attempt: the body of a 2xx answer.

        Raises:
            OSError, HTTPException: worth another attempt.
            RetrieverError: not so.
        """
        deadline = time.monotonic() + self.timeout_s
        request = urllib.request.Request(self.url, data=data, headers=self.headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                body = bytearray()
                while part := response.read1(1 << 16):
                    body += part
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"the answer took longer than {self.timeout_s} s")
                    if len(body) > _MOST_BYTES:
                        raise RetrieverError(f"Expected less than {_MOST_BYTES:,} bytes from {self.url}.")
                if response.length:
                    raise http.client.IncompleteRead(bytes(body), response.length)
                return bytes(body)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 429 or error.code >= 500:
                    raise OSError(f"HTTP status {error.code}") from None
                said = error.read(300).decode(errors="replace")
                raise RetrieverError(f"{self.url} refused the request with HTTP status {error.code}: {said}") from None

    def _decoded(self, raw: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = raw
        if not isinstance(answer, dict):
            raise RetrieverError(f"Expected a JSON object from {self.url}, found {shorten(answer)}.")
        return answer

    def _snippet(self, text: str) -> str:
        return text if len(text) <= self.snippet_chars else f"{text[: self.snippet_chars]}..."


def _list(answer: dict[str, Any], key: str) -> list[Any]:
    rows = answer.get(key)
    if not isinstance(rows, list):
        raise RetrieverError(f'Expected "{key}" to be a list in the retriever\'s answer, found {shorten(answer)}.')
    return rows


def _number(row: Any, key: str) -> float:
    value = row.get(key) if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RetrieverError(f'Expected "{key}" to be a number in the retriever\'s answer, found {shorten(row)}.')
    return float(value)


def _passage(row: Any) -> Passage:
    match row:
        case {"id": str() | int() as identity, "text": str(text)}:
            return Passage(str(identity), clean(str(row.get("title") or "")), clean(text))
        case _:
            raise RetrieverError(f'Expected a passage with "id" and "text" from the retriever, found {shorten(row)}.')
