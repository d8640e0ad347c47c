"""The chat server against a real HTTP server on this machine that fails as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs openai: pip install forethought[server]")

from forethought.agents import (
    ContextWindow,
    EnvSpec,
    Episode,
    EpisodeRequest,
    ScriptedAgent,
    Status,
    collect_rollouts,
    replay_episode,
)
from forethought.agents.engine import FinishReason, SamplingParams
from forethought.agents.engines.chat_server import ChatServer
from forethought.agents.engines.chat_server_agent import FIRST_ID, chat_server_agent
from forethought.agents.text_model import Prices, PromptRefused
from forethought.envs import Call, ToolEnv
from forethought.envs.conformance import Script
from forethought.sandboxes import InfrastructureFault

Body = dict[str, Any]
Answer = Callable[[BaseHTTPRequestHandler, Body], None]


class FakeOpenAI:
    """Answers as the test says, one answer a request; when those are used up, the last one again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.received: list[Body] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.arrivals: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.released = threading.Event()
        """Ends the answers that hang."""
        lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    answer = fake.answers[min(len(fake.received), len(fake.answers) - 1)]
                    fake.received.append(body)
                    fake.keys.append(self.headers["Authorization"])
                    fake.paths.append(self.path)
                    fake.arrivals.append(time.monotonic())
                    fake.in_flight += 1
                    fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
                try:
                    with contextlib.suppress(OSError):  # the client has gone
                        answer(self, body)
                finally:
                    with lock:
                        fake.in_flight -= 1

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test's output clean."""

        class Listener(ThreadingHTTPServer):
            request_queue_size = 64

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    fake = FakeOpenAI()
    thread = threading.Thread(target=fake.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.released.set()
    fake.http.shutdown()
    thread.join()
    fake.http.server_close()


Connect = Callable[..., ChatServer]


@pytest.fixture
async def connect(fake: FakeOpenAI) -> AsyncIterator[Connect]:
    servers = []

    def make(**options: Any) -> ChatServer:
        servers.append(
            ChatServer(options.pop("url", fake.url), "small", **{"attempts": 3, "timeout_s": 5.0, **options})
        )
        return servers[-1]

    yield make
    for server in servers:
        await server.close()


def send(handler: BaseHTTPRequestHandler, status: int, data: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def says(text: str | None, *, tokens: tuple[int, int] | None = (7, 3), finish: str = "stop", **message: Any) -> Answer:
    choice: Body = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    body: Body = {"id": "x", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return lambda handler, asked: send(handler, 200, json.dumps(body).encode())


def fails(status: int, message: str = "no", error: Body | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None, **(error or {})}})
    return lambda handler, asked: send(handler, status, body.encode(), **headers)


def sends(data: bytes) -> Answer:
    return lambda handler, asked: send(handler, 200, data)


async def test_an_answer_with_its_counts_and_cost(
    fake: FakeOpenAI, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    fake.answers = [says("four", tokens=(1000, 50))]
    server = connect(
        key_variable="SOME_KEY",
        system="Be brief.",
        parameters={"temperature": 0, "max_tokens": 9, "reasoning_effort": "low"},
        prices=Prices(input=2.0, output=10.0),
    )
    answer = await server.answer("two and two? \ud800")
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("four", 1000, 50)
    assert answer.cost == pytest.approx(0.002 + 0.0005)
    assert fake.received == [
        {
            "model": "small",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two and two? ?"}],
            "temperature": 0,
            "max_tokens": 9,
            "reasoning_effort": "low",
        }
    ]
    assert (fake.keys, fake.paths) == (["Bearer secret"], ["/v1/chat/completions"])
    assert "secret" not in repr(vars(server))
    await server.answer("again")
    usage = server.usage
    assert (usage.requests, usage.answers, usage.input_tokens, usage.output_tokens) == (2, 2, 2000, 100)
    assert usage.cost == pytest.approx(0.005) and usage.uncounted == 0
    assert server.name == "small"


async def test_a_server_that_does_not_count(fake: FakeOpenAI, connect: Connect) -> None:
    fake.answers = [says("123456789", tokens=None)]
    server = connect()
    answer = await server.answer("12345")
    assert (answer.input_tokens, answer.output_tokens, server.usage.uncounted) == (2, 3, 1)


def drops(handler: BaseHTTPRequestHandler, asked: Body) -> None:
    """End the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def truncates(handler: BaseHTTPRequestHandler, asked: Body) -> None:
    """Promise more than is sent."""
    send(handler, 200, b'{"choices": [', Content_Length="500")
    drops(handler, asked)


@pytest.mark.parametrize(
    "failure",
    [
        fails(429, retry_after="0"),
        fails(429, retry_after_ms="1"),
        fails(500),
        fails(503),
        fails(408),
        drops,
        truncates,
        sends(b'{"choices": [{"mess'),
        sends(b"<html>starting</html>"),
        sends(b'{"error": {"code": 502, "message": "upstream"}}'),
        sends(b'{"choices": []}'),
        sends(b"[" * 5000),
    ],
)
async def test_what_may_pass_is_tried_again(fake: FakeOpenAI, connect: Connect, failure: Answer) -> None:
    fake.answers = [failure, failure, says("there")]
    server = connect()
    assert (await server.answer("?")).text == "there"
    assert (server.usage.requests, server.usage.answers) == (3, 1)
    fake.received.clear()
    fake.answers = [failure]
    with pytest.raises(InfrastructureFault, match=r"server at http://127.* gave no answer in at most 3 attempts: "):
        await server.answer("?")
    assert len(fake.received) == 3 and server.usage.answers == 1


async def test_the_pause_that_the_server_asks_for_is_kept(fake: FakeOpenAI, connect: Connect) -> None:
    fake.answers = [fails(429, Retry_After="1"), says("there")]
    assert (await connect().answer("?")).text == "there"
    assert fake.arrivals[1] - fake.arrivals[0] >= 1.0


async def test_a_server_that_is_not_there(connect: Connect) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InfrastructureFault, match="gave no answer in at most 1 attempt: ConnectError"):
        await connect(url=f"http://127.0.0.1:{port}/v1", attempts=1).answer("?")


@pytest.mark.parametrize("drip", [False, True])
async def test_a_server_that_hangs(fake: FakeOpenAI, connect: Connect, drip: bool) -> None:
    def hangs(handler: BaseHTTPRequestHandler, asked: Body) -> None:
        if not drip:
            fake.released.wait(20)
            return
        handler.send_response(200)
        handler.end_headers()
        while not fake.released.wait(0.05):  # what some servers send to keep a connection open
            handler.wfile.write(b"\n")

    fake.answers = [hangs, says("there")]
    server = connect(timeout_s=0.25)
    assert (await server.answer("?")).text == "there"
    fake.answers = [hangs]
    with pytest.raises(InfrastructureFault, match="in at most 3 attempts: ReadTimeout"):
        await server.answer("?")


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        (fails(401, "wrong key"), r"HTTP status 401: .*wrong key.*; check the key in SOME_KEY, the model 'small'"),
        (fails(404, "no such model"), "404: .*no such model"),
        (fails(400, "bad value", {"param": "temperature"}), "400: .*bad value.*the parameters temperature"),
        (fails(422, "unknown field"), "422: .*unknown field"),
    ],
)
async def test_a_wrong_setting_is_no_fault_of_the_prompt(
    fake: FakeOpenAI, connect: Connect, monkeypatch: pytest.MonkeyPatch, refusal: Answer, found: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    fake.answers = [refusal]
    with pytest.raises(InfrastructureFault, match=found):
        await connect(key_variable="SOME_KEY", parameters={"temperature": 3}).answer("?")
    assert len(fake.received) == 1  # not tried again


TOO_LONG = fails(400, "This model's maximum context length is 10 tokens", {"param": "max_tokens"})


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        (TOO_LONG, "small refused the prompt .HTTP status 400.: .*maximum context length"),
        (fails(413, "too large"), "HTTP status 413"),
        (says(None, refusal="I cannot help."), "small declined: I cannot help"),
        (says("", finish="content_filter"), "filtered the content"),
    ],
)
async def test_a_refused_prompt_is_an_observation(
    fake: FakeOpenAI, connect: Connect, refusal: Answer, found: str
) -> None:
    fake.answers = [refusal]
    with pytest.raises(PromptRefused, match=found):
        await connect(parameters={"max_tokens": 3}).answer("?")
    assert len(fake.received) == 1


async def test_what_a_server_that_answers_dislikes_is_the_prompt(fake: FakeOpenAI, connect: Connect) -> None:
    fake.answers = [says("fine"), fails(400, "cannot parse"), fails(400, "bad", {"param": "top_p"}), says("fine")]
    server = connect(parameters={"top_p": 0.5})
    await server.answer("?")
    with pytest.raises(PromptRefused, match="cannot parse"):
        await server.answer("odd")
    with pytest.raises(InfrastructureFault, match="bad"):
        await server.answer("?")
    assert (server.usage.requests, server.usage.answers, server.usage.refusals) == (3, 1, 1)


async def test_an_answer_that_is_no_text(fake: FakeOpenAI, connect: Connect) -> None:
    fake.answers = [says([{"type": "image"}])]  # type: ignore[arg-type]
    with pytest.raises(InfrastructureFault, match="something else than text"):
        await connect().answer("?")


async def test_odd_shapes_around_an_answer(fake: FakeOpenAI, connect: Connect) -> None:
    choice = {"message": {"content": "fine"}, "logprobs": {"content": [{"bytes": [999], "logprob": 0}, {}, 3]}}
    shapes: list[Body] = [
        {"choices": [choice], "usage": [1]},
        {"choices": [choice], "usage": {"prompt_tokens": "7", "completion_tokens": -1}},
        {"choices": [{**choice, "logprobs": [1]}]},
    ]
    fake.answers = [sends(json.dumps(shape).encode()) for shape in shapes]
    server = connect()
    for _ in shapes:
        done = await server.complete([{"role": "user", "content": "?"}])
        assert (done.text, done.tokens, done.input_tokens, done.output_tokens) == ("fine", [], 1, 1)
    fake.answers = [sends(b'{"choices": [{"message": ["fine"]}]}')]
    assert (await server.answer("?")).text == ""


async def test_no_more_requests_at_once_than_allowed(fake: FakeOpenAI, connect: Connect) -> None:
    def slowly(handler: BaseHTTPRequestHandler, asked: Body) -> None:
        time.sleep(0.02)
        says("there")(handler, asked)

    fake.answers = [slowly]
    server = connect(concurrency=3)
    await asyncio.gather(*(server.answer(str(i)) for i in range(12)))
    assert fake.most_in_flight <= 3 and len(fake.received) == 12


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 12_000}])
async def test_a_rate_is_kept(fake: FakeOpenAI, connect: Connect, limits: dict[str, float]) -> None:
    """20 requests a second: by number, or because each takes 10 tokens."""
    fake.answers = [says("there", tokens=(7, 3))]
    server = connect(**limits)
    began = time.monotonic()
    for _ in range(9):
        await server.answer("?")
    assert fake.arrivals[-1] - began >= 8 / 20


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"url": "localhost:8000"}, "starts with http"),
        ({"attempts": 0}, "above 0, found 0"),
        ({"requests_per_minute": -1}, "above 0"),
        ({"key_variable": "NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY holds no key for http"),
    ],
)
async def test_wrong_arguments(connect: Connect, options: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        connect(**options)


def test_without_the_extra() -> None:
    code = "import sys; sys.modules['openai'] = None; import forethought.agents.engines.chat_server"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "chat servers need openai, which is not installed: pip install 'forethought[server]'" in done.stderr


# Whole episodes with a chat-only server.

TURNS = (
    '<plan>\n1. ask\n2. answer (after 1)\n</plan>\n<think>naïve 中文</think>\n<tool_call>\n{"name": "echo", '
    '"arguments": {"text": "word7"}, "step": 1}\n</tool_call>',
    "<answer>word7</answer>",
)


async def roll_out(server: ChatServer, spec: EnvSpec, max_tokens: int = 100, **options: Any) -> Episode:
    agent = chat_server_agent(server, sampling=SamplingParams(max_tokens=max_tokens, temperature=0.5), **options)
    (episode,) = await collect_rollouts([EpisodeRequest(task=spec.make().tasks[7])], spec, agent, max_retries=0)
    return episode


async def test_an_episode_with_a_chat_server(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    fake.answers = [says(TURNS[0], tokens=(90, 60)), says(TURNS[1], tokens=(150, 6))]
    episode = await roll_out(connect(), echo_spec)
    assert (episode.reward, episode.answer, episode.status) == (1.0, "word7", Status.COMPLETED)
    assert [turn.text for turn in episode.turns] == list(TURNS)
    assert [turn.end - turn.start for turn in episode.turns] == [60, 6]  # as the server counts
    assert await replay_episode(episode) == []
    env = echo_spec.make()
    env.reset(options={"task": 7})
    opening = [{"role": "system", "content": env.instructions}, {"role": "user", "content": "echo word7"}]
    assert fake.received[0]["messages"] == opening
    assert fake.received[1]["messages"] == [
        *opening,
        {"role": "assistant", "content": TURNS[0]},
        {"role": "user", "content": episode.turns[0].observation},
    ]
    first = fake.received[0]
    assert (first["max_tokens"], first["temperature"]) == (100, 0.5) and isinstance(first["seed"], int)
    assert "logprobs" not in first and "top_p" not in first


async def test_its_ids_belong_to_no_model(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    fake.answers = [says(TURNS[0]), says(TURNS[1])]
    (segment,) = (await roll_out(connect(), echo_spec)).segments
    assert min(segment.token_ids) >= FIRST_ID
    assert all(math.isnan(p) == bool(s) for p, s in zip(segment.logprobs, segment.sampled, strict=True))


async def test_tokens_that_the_server_shows(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    raw = [b"<plan>\n1. answer\n</plan>", b"\n<ans", b"wer>", b"\xe4\xb8", b"\xad", b"</answer>"]
    rows = [{"token": "?", "bytes": list(p), "logprob": -0.5 * i} for i, p in enumerate(raw)]
    body = {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {"content": b"".join(raw).decode()},
                "logprobs": {"content": rows},
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 17},
    }
    fake.answers = [sends(json.dumps(body).encode())]
    episode = await roll_out(connect(), echo_spec, logprobs=True)
    assert fake.received[0]["logprobs"] is True
    assert episode.answer == "中" and episode.sampled_tokens() == 17
    (segment,), (turn,) = episode.segments, episode.turns
    assert segment.logprobs[turn.start : turn.start + 6] == [-0.5 * i for i in range(6)]
    assert all(math.isnan(p) for p in segment.logprobs[turn.start + 6 : turn.end])  # reasoning that it does not show
    assert [episode.section_tokens(kind) for kind in ("plan", "answer")] == [1, 5]
    (answer,) = [span for span in segment.sections if span.kind == "answer"]
    assert segment.logprobs[answer.start : answer.end] == [-0.5, -1.0, -1.5, -2.0, -2.5]


@pytest.mark.parametrize("tokens", [(9, 1), (9, 2), (9, 20), (9, 99)])
async def test_a_turn_that_the_server_cuts(
    fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec, tokens: tuple[int, int]
) -> None:
    spec = EnvSpec(id=echo_spec.id, kwargs={"budget": {"turns": 1}})
    fake.answers = [says("<plan>\n1. ask and so on", tokens=tokens, finish="length")]
    episode = await roll_out(connect(), spec, max_tokens=20)
    assert episode.turns[0].text == "<plan>\n1. ask and so on"
    assert episode.sampled_tokens() == min(20, tokens[1]) == episode.turns[0].end - episode.turns[0].start
    assert (episode.status, episode.stop_reason) == (Status.TRUNCATED, "turns")


async def test_a_conversation_that_goes_on_from_a_summary(
    fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec
) -> None:
    summary = "<think>enough</think>\n<summary>it is word7</summary>"
    fake.answers = [says(TURNS[0], tokens=(9, 90)), says(summary, tokens=(9, 70)), says(TURNS[1])]
    episode = await roll_out(connect(), echo_spec, window=ContextWindow(policy="learned"))
    assert (episode.reward, [segment.kind for segment in episode.segments]) == (1.0, ["root", "after_summary"])
    plan, summary = TURNS[0].partition("\n<think>")[0], "<summary>it is word7</summary>"
    messages = fake.received[2]["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"].split() == f"echo word7 {plan} {summary}".split()
    assert await replay_episode(episode) == []


async def test_a_server_as_a_sub_model(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    """Its answers and refusals are read by the policy that asked; when it is gone, the episode does not count."""

    def script(env: ToolEnv) -> Script:
        yield env.codec.write_turn(plan=["ask"], calls=[Call("ask", {"task": t, "context": "c"}) for t in "ab"])
        yield env.codec.write_turn(answer="word7")

    fake.answers = [says("one", tokens=(1000, 50)), TOO_LONG]
    server = connect(prices=Prices(input=1.0, output=2.0), concurrency=1)
    spec = EnvSpec(id=echo_spec.id, kwargs={"sub_models": ["big"]})
    agent = ScriptedAgent(script, sub_models={"big": server})
    request = EpisodeRequest(task=spec.make().tasks[7])
    (episode,) = await collect_rollouts([request], spec, agent)
    answered, refused = sorted(episode.turns[0].calls, key=lambda call: call.error or "")
    assert (answered.output, answered.model, answered.sampled_tokens) == ("one", "big", 50)
    assert (refused.error, refused.output[:31]) == ("tool_error", "Error: small refused the prompt")
    assert episode.usage["cost"] == answered.cost == pytest.approx(0.0011)
    assert fake.received[0]["messages"] == [{"role": "user", "content": "a\n\nc"}]
    fake.answers = [says("one")]
    (episode,) = await collect_rollouts([request], spec, agent)
    assert [call.output for call in episode.turns[0].calls] == ["one", "one"]
    assert await replay_episode(episode) == []
    fake.answers = [fails(500)]
    (episode,) = await collect_rollouts([request], spec, agent, max_retries=0)
    assert episode.status is Status.FAULT


async def test_a_refused_conversation_is_an_empty_turn(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    fake.answers = [says(TURNS[0]), TOO_LONG, says(TURNS[1])]
    episode = await roll_out(connect(), echo_spec)
    assert [turn.text for turn in episode.turns] == [TURNS[0], "", TURNS[1]]
    assert episode.turns[1].error is not None and episode.reward == 1.0


async def test_a_server_that_is_gone_is_a_fault(fake: FakeOpenAI, connect: Connect, echo_spec: EnvSpec) -> None:
    fake.answers = [says(TURNS[0]), fails(503)]
    episode = await roll_out(connect(), echo_spec)
    assert episode.status is Status.FAULT and "HTTP status 503" in (episode.fault or "")


async def test_a_turn_that_somebody_else_began(connect: Connect) -> None:
    agent = chat_server_agent(connect())
    ids = [*agent.format.observation("go on", True), *agent.format.tokenizer.encode("<plan>")]
    with pytest.raises(ValueError, match="a chat-only server begins every turn itself"):
        await agent.engine.sample(ids, SamplingParams())


async def test_sampling_that_the_protocol_has_not(connect: Connect) -> None:
    with pytest.raises(ValueError, match="chat servers take no top_k, found 5"):
        chat_server_agent(connect(), sampling=SamplingParams(top_k=5))


def test_finish_reasons() -> None:
    """A turn never has more ids than it may."""
    from forethought.agents.engines.chat_server import Completion
    from forethought.agents.engines.chat_server_agent import ServerFormat

    form = ServerFormat()
    for most in range(1, 6):
        for tokens in range(8):
            done = Completion(text="a b c", cut=False, input_tokens=1, output_tokens=tokens, cost=0.0)
            sample = form.sampled(done, most)
            assert 1 <= len(sample.token_ids) <= most
            assert len(sample.logprobs) == len(sample.token_ids)
            assert "".join(form.tokenizer.pieces(sample.token_ids)) == "a b c"
            stopped = sample.token_ids[-1] in form.stop_token_ids
            assert stopped == (sample.finish_reason is FinishReason.STOP) == (most > 1)
