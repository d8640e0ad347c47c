"""Any server that speaks OpenAI's chat completions, as a model that answers a text with a text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...sandboxes.faults import InfrastructureFault
from ..text_model import Prices, PromptRefused, TextAnswer
from .chat_server_attempts import EXCERPT, Attempts, Pace, ServerUsage, openai

_PROMPT_STATUSES = (400, 413, 422)
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of the server."""

    text: str
    cut: bool
    """The server stopped at its limit of tokens."""
    input_tokens: int
    output_tokens: int
    cost: float
    tokens: list[tuple[bytes, float]] = field(default_factory=list)
    """Bytes and log-probability of each visible token, where `logprobs` was asked for and given."""


class ChatServer:
    """A model behind a server: OpenAI, vLLM, llama.cpp, Ollama or any other that has `/chat/completions`.

    A request that fails by the network, a time-out, an answer that is cut or is no JSON, or the statuses 408, 409, 429
    and 5xx is repeated, `attempts` times in all. The pauses are those that the server asks for (`Retry-After`, up to
    two minutes), else about 0.5 s, 1 s, 2 s, ... 8 s with jitter. After the last attempt it is an
    `InfrastructureFault`; so are, at once, a wrong key, model or setting. What is wrong with the prompt alone is
    `PromptRefused`. Use a server object from one event loop; `close` it there.

    Args:
        base_url: What stands before `/chat/completions`, for example `http://127.0.0.1:8000/v1`.
        model: The model's name at the server.
        key_variable: Environment variable that holds the server's key; None for a server without keys.
        system: A system message for `answer`.
        parameters: Fields of every request, such as `{"max_tokens": 500, "temperature": 0}`.
        prices: What tokens cost.
        attempts: How often a request is sent at most.
        timeout_s: Bounds each attempt, the whole answer included.
        concurrency: Most requests at once.
        requests_per_minute: Requests are spaced evenly to keep to it.
        tokens_per_minute: Likewise, for the tokens of prompts and answers.
        name: The model's name by default.

    Raises:
        ValueError: the address is none, a number is too small, or the key is not set.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        prices: Prices | None = None,
        attempts: int = 8,
        timeout_s: float = 300.0,
        concurrency: int = 32,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        name: str | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"expected a server's address that starts with http:// or https://, found {base_url!r}")
        numbers = (attempts, timeout_s, concurrency, requests_per_minute, tokens_per_minute)
        if any(number is not None and number <= 0 for number in numbers):
            raise ValueError(
                "expected attempts, timeout_s, concurrency, requests_per_minute and tokens_per_minute above 0, found "
                + ", ".join(map(str, numbers))
            )
        key = os.environ.get(key_variable) if key_variable else "none"
        if not key:
            raise ValueError(f"the environment variable {key_variable} holds no key for {base_url}: set it")
        self.base_url, self.model, self.name = base_url.rstrip("/"), model, name or model
        self.system, self.parameters = system, dict(parameters or {})
        self.prices, self.attempts, self.usage = prices or Prices(), attempts, ServerUsage()
        self._key_variable = key_variable
        self._tokens = Pace(tokens_per_minute)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=self.base_url,
            max_retries=attempts - 1,
            timeout=timeout_s,
            http_client=Attempts(self.usage, timeout_s, concurrency, requests_per_minute),
        )

    async def answer(self, prompt: str) -> TextAnswer:
        """The model's answer to one user message.

        Raises:
            PromptRefused, InfrastructureFault: see the class.
        """
        messages = [{"role": "system", "content": self.system}] if self.system else []
        done = await self.complete([*messages, {"role": "user", "content": prompt}])
        return TextAnswer(
            text=done.text, input_tokens=done.input_tokens, output_tokens=done.output_tokens, cost=done.cost
        )

    async def complete(
        self, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any] | None = None
    ) -> Completion:
        """The message that follows `messages` (each with `role` and `content`).

        Args:
            messages: The conversation.
            parameters: More fields of this request.

        Raises:
            PromptRefused, InfrastructureFault: see the class.
        """
        asked: list[Any] = [{"role": m["role"], "content": _unicode(m["content"])} for m in messages]
        fields = {**self.parameters, **(parameters or {})}
        expected = _tokens_of("".join(m["content"] for m in asked)) + _most_tokens(fields)
        await self._tokens.wait(expected)
        try:
            reply = await self._client.chat.completions.with_raw_response.create(
                model=self.model, messages=asked, extra_body=fields
            )
        except openai.APIConnectionError as error:
            raise self._unreachable(repr(error.__cause__ or error)) from error
        except openai.APIStatusError as error:
            raise self._refused(error, fields) from error
        body = reply.http_response.json()
        done = self._read(body, asked)
        self._tokens.correct(done.input_tokens + done.output_tokens - expected)
        self._count(done, counted="completion_tokens" in _mapping(body.get("usage")))
        _require_answer(self.name, body["choices"][0])
        return done

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _read(self, body: dict[str, Any], asked: list[dict[str, str]]) -> Completion:
        choice, usage = body["choices"][0], _mapping(body.get("usage"))
        text = _mapping(choice.get("message")).get("content") or ""
        if not isinstance(text, str):
            raise InfrastructureFault(
                f"the chat server at {self.base_url} answered with something else than text: {str(text)[:EXCERPT]}"
            )
        spoken = usage.get("prompt_tokens"), usage.get("completion_tokens")
        inputs = _count_or(spoken[0], sum(_tokens_of(m["content"]) for m in asked))
        outputs = _count_or(spoken[1], _tokens_of(text))
        return Completion(
            text=text,
            cut=choice.get("finish_reason") == "length",
            input_tokens=inputs,
            output_tokens=outputs,
            cost=self.prices.cost(inputs, outputs),
            tokens=_visible_tokens(choice),
        )

    def _count(self, done: Completion, counted: bool) -> None:
        usage = self.usage
        usage.answers += 1
        usage.uncounted += not counted
        usage.input_tokens += done.input_tokens
        usage.output_tokens += done.output_tokens
        usage.cost += done.cost

    def _unreachable(self, cause: str) -> InfrastructureFault:
        times = f"at most {self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        return InfrastructureFault(f"the chat server at {self.base_url} gave no answer in {times}: {cause}")

    def _refused(self, error: openai.APIStatusError, fields: Mapping[str, Any]) -> Exception:
        """What a status means: the prompt, the settings, or the server."""
        status, said = error.status_code, error.message[:EXCERPT]
        if status >= 500 or status in (408, 409, 429):
            return self._unreachable(f"HTTP status {status}: {said}")
        too_long = status == 413 or "context" in said.lower()
        # A server that has never answered may dislike a setting without naming it: that is not the prompt's fault.
        liked_before = self.usage.answers > 0 and error.param not in (*fields, "model")
        if status in _PROMPT_STATUSES and (too_long or liked_before):
            self.usage.refusals += 1
            return PromptRefused(f"{self.name} refused the prompt (HTTP status {status}): {said}")
        key = f"the key in {self._key_variable}" if self._key_variable else "the key (no key_variable is given)"
        return InfrastructureFault(
            f"the chat server at {self.base_url} refused the request with HTTP status {status}: {said}; check {key}, "
            f"the model {self.model!r}, the address and the parameters {', '.join(fields) or '(none)'}"
        )


def _require_answer(name: str, choice: Mapping[str, Any]) -> None:
    message = _mapping(choice.get("message"))
    if choice.get("finish_reason") == "content_filter":
        raise PromptRefused(f"{name} gave no answer: its server filtered the content")
    if message.get("refusal"):
        raise PromptRefused(f"{name} declined: {str(message['refusal'])[:EXCERPT]}")


def _visible_tokens(choice: Mapping[str, Any]) -> list[tuple[bytes, float]]:
    match choice.get("logprobs"):
        case {"content": [*rows]}:
            return [token for row in rows if (token := _visible_token(row)) is not None]
    return []


def _visible_token(row: Any) -> tuple[bytes, float] | None:
    match row:
        case {"bytes": [*values], "logprob": int() | float() as logprob} if all(map(_is_byte, values)):
            return bytes(values), float(logprob)
        case {"token": str(token), "logprob": int() | float() as logprob}:
            return token.encode("utf-8", "replace"), float(logprob)
    return None


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 256


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _most_tokens(fields: Mapping[str, Any]) -> int:
    return next((int(fields[n]) for n in ("max_tokens", "max_completion_tokens") if n in fields), 0)


def _tokens_of(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def _count_or(given: Any, assumed: int) -> int:
    return given if isinstance(given, int) and given >= 0 else assumed


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()
