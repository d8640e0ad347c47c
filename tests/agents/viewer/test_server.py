"""The server through HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from forethought.agents import WordTokenizer
from forethought.agents.viewer import RunSet, ViewerServer

from .conftest import HOSTILE, append_line, plain_episode, rich_episode


class Client:
    def __init__(self, server: ViewerServer) -> None:
        self.port = server.port
        self.prefix = urlsplit(server.url).path

    def get(self, path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def ask(self, route: str, status: int = 200) -> Any:
        found, headers, body = self.get(f"{self.prefix}api/{route}")
        assert (found, headers["Content-Type"]) == (status, "application/json; charset=utf-8")
        return json.loads(body)


Serve = Callable[..., Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ViewerServer] = []

    def start(*folders: Path, model: Path | None = None) -> Client:
        servers.append(ViewerServer(RunSet(folders), model=model))
        return Client(servers[-1])

    yield start
    for server in servers:
        server.close()


def test_nothing_is_shown_without_the_token(mixed_run: Path, serve: Serve) -> None:
    client = serve(mixed_run)
    assert client.get(client.prefix)[0] == 200
    guess = f"/{'x' * (len(client.prefix) - 2)}/"
    for path in ("/", "/api/runs", guess, f"{guess}api/runs", client.prefix.rstrip("/")):
        status, _, body = client.get(path)
        assert status == 403 and b"episode" not in body
    assert client.get(client.prefix, host="evil.example")[0] == 403
    assert client.get(client.prefix, host=f"localhost:{client.port}")[0] == 200
    assert client.get(client.prefix, method="POST")[0] == 501


def test_pages_may_load_nothing_from_elsewhere(mixed_run: Path, serve: Serve) -> None:
    client = serve(mixed_run)
    for name in ("", "main.js", "viewer.css", "api/runs", "nowhere"):
        _, headers, _ = client.get(client.prefix + name)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert client.get(f"{client.prefix}../../episodes.jsonl")[0] == 404
    assert client.get(f"{client.prefix}nowhere")[0] == 404


def test_the_list(mixed_run: Path, serve: Serve) -> None:
    client = serve(mixed_run)
    answer = client.ask("episodes?flags=failed&sort=-line")
    assert (answer["lines"], answer["matches"], answer["reading"]) == (10, 1, False)
    assert [row["id"] for row in answer["rows"]] == ["task-3/0"]
    assert answer["scores"] == ["reward", "correct", "cost"]
    assert len(client.ask("episodes?start=4&count=3")["rows"]) == 3
    assert "no filter 'odd'" in client.ask("episodes?flags=odd", 400)["error"]
    assert "low: expected a number" in client.ask("episodes?low=much", 400)["error"]
    assert "there is no run 7" in client.ask("episodes?run=7", 400)["error"]
    assert "run: expected a whole number" in client.ask("episodes?run=-1", 400)["error"]


def test_an_episode(mixed_run: Path, serve: Serve) -> None:
    client = serve(mixed_run)
    episode = client.ask("episode?line=0")
    assert episode["problems"] == [] and episode["turns"][0]["logprob"] == pytest.approx(-1.485, abs=0.01)
    assert episode["critical"]["tokens"] < episode["critical"]["total"]
    assert "no line 1000" in client.ask("episode?line=999", 400)["error"]


def test_two_runs_are_compared_by_task(write_run: Callable[..., Path], serve: Serve) -> None:
    base = write_run([plain_episode(1), plain_episode(2)], "base")
    trained = write_run([plain_episode(2), plain_episode(2, attempt=1), plain_episode(3)], "trained")
    client = serve(base, trained)
    assert client.ask("runs")["runs"] == ["base", "trained"]
    assert [row["id"] for row in client.ask("episodes?run=1&task_id=task-2")["rows"]] == ["task-2/0", "task-2/1"]


def test_tokens_of_bytes(mixed_run: Path, serve: Serve) -> None:
    answer = serve(mixed_run).ask("tokens?line=0&turn=0")
    assert answer["tokenizer"] == "bytes" and answer["tokens"][:3] == [["<", 0.0], ["p", -0.5], ["l", -1.0]]
    assert [section["kind"] for section in answer["sections"]] == ["plan", "think", "call"]


def test_tokens_of_words_and_of_a_model(write_run: Callable[..., Path], tmp_path: Path, serve: Serve) -> None:
    tokenizer = WordTokenizer(["look", "Ada"])
    episode = plain_episode(0)
    for turn in episode.turns:
        turn.text = "<plan> 1. look </plan>"
    episode.segments = episode.segments[:1]
    ids = [*tokenizer.encode_turn("<plan> look look </plan>"), tokenizer.eos]
    episode.segments[0].token_ids, episode.segments[0].sampled = ids, [1] * 5
    episode.segments[0].logprobs, episode.segments[0].sections = [-0.25] * 5, []
    episode.turns = [episode.turns[0]]
    episode.turns[0].start, episode.turns[0].end = 0, 5
    episode.turns[0].text = "<plan> look look </plan>"
    client = serve(write_run([episode]))
    answer = client.ask("tokens?line=0&turn=0")
    assert answer["tokenizer"] == "words" and [t[0] for t in answer["tokens"]] == [
        "<plan>",
        " look",
        " look",
        " </plan>",
        "",
    ]

    # Ids that say "look Ada" do not fit a text that says "look look", so no word is put where it does not belong.
    episode.segments[0].token_ids = [*tokenizer.encode_turn("<plan> look Ada </plan>"), tokenizer.eos]
    client = serve(write_run([episode], "other"))
    answer = client.ask("tokens?line=0&turn=0")
    assert answer["tokens"] is None and answer["why"] == "no tokenizer of the run fits its text"


def test_tokens_of_a_models_tokenizer(
    write_run: Callable[..., Path], tmp_path: Path, serve: Serve, chat_tokenizer: Any
) -> None:
    text = "<plan>the word\nof 2</plan>"
    ids = [*chat_tokenizer(text)["input_ids"], chat_tokenizer.eos_token_id]
    episode = plain_episode(0)
    segment = episode.segments[0]
    segment.token_ids, segment.sampled, segment.logprobs, segment.sections = ids, [1] * len(ids), [-0.1] * len(ids), []
    episode.turns = [episode.turns[0]]
    episode.turns[0].text, episode.turns[0].start, episode.turns[0].end = text, 0, len(ids)
    folder = write_run([episode], "out/eval/rl")
    (tmp_path / "out/recipe.resolved.toml").write_text("")
    chat_tokenizer.save_pretrained(tmp_path / "out/start/model")
    answer = serve(folder).ask("tokens?line=0&turn=0")
    assert answer["tokenizer"] == "start" and answer["tokens"][0][0] == "<plan>"
    assert "".join(piece for piece, _ in answer["tokens"]).startswith(text)
    chat_tokenizer.save_pretrained(tmp_path / "elsewhere")
    other = write_run([episode], "alone")
    assert serve(other).ask("tokens?line=0&turn=0")["tokens"] is None
    assert serve(other, model=tmp_path / "elsewhere").ask("tokens?line=0&turn=0")["tokens"] is not None


def test_missing_tokens_are_said(mixed_run: Path, serve: Serve) -> None:
    (mixed_run / "tokens" / "logprobs.f32").write_bytes(b"\0" * 8)
    client = serve(mixed_run)
    assert "tokens/logprobs.f32 has 2 entries" in client.ask("tokens?line=0&turn=0", 400)["error"]
    assert "no log-probabilities" in client.ask("episode?line=0")["problems"][0]


def test_damaged_and_huge_lines(write_run: Callable[..., Path], serve: Serve) -> None:
    episode = plain_episode(1)
    episode.turns[0].observation = "x" * 3_000_000
    folder = write_run([episode])
    append_line(folder, b'{"half": \n')
    client = serve(folder)
    shown = client.ask("episode?line=0")
    assert "1 long text is cut" in shown["problems"][0] and len(shown["turns"][0]["observation"]) < 70_000
    assert client.ask("episode?line=1")["damaged"].startswith("the line is not JSON")
    status, headers, body = client.get(f"{client.prefix}raw?line=0")
    assert status == 200 and headers["Content-Disposition"].startswith("attachment")
    assert json.loads(body)["turns"][0]["observation"] == "x" * 3_000_000
    answer = client.ask("episodes")
    assert answer["problems"] == [
        "1 line cannot be read: filter by 'damaged' to see which",
        "1 line can be read in part: filter by 'unsound' to see which",
    ]


def test_no_answer_holds_what_acts(write_run: Callable[..., Path], serve: Serve) -> None:
    client = serve(write_run([rich_episode(0, HOSTILE, task_id=f"id {HOSTILE}", stop_reason=HOSTILE, answer=HOSTILE)]))
    for route in ("episodes", "episode?line=0", "tokens?line=0&turn=0", "runs"):
        texts = json.dumps(client.ask(route), ensure_ascii=False)
        assert not any(char in texts for char in "\x00\x07\x1b\x9b\u202e\u2066"), route
        assert not any(code in texts for code in (r"\u001b", r"\u0007", r"\u0000", r"\r")), route
