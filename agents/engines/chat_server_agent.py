"""Whole episodes with a server that takes and gives text only: for evaluation, never for training.

A rollout is written in tokens, and such a server shows none. So each word that it reads, and each token that it says
it sampled, gets a number that means something in this process alone. The numbers begin at 2**30, where no model has a
token: whoever tries to train on such an episode is told so at once.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Sequence
from typing import Any

from ...envs.tool_env import ToolEnv
from ..agent import ModelAgent
from ..engine import FinishReason, Sample, SamplingParams
from ..text_model import PromptRefused
from ..tokenizers import Tokenizer
from .chat_server import ChatServer, Completion

FIRST_ID = 2**30
_END, _SILENT, _SYSTEM, _USER, _ASSISTANT = range(FIRST_ID, FIRST_ID + 5)
_ROLES = {_SYSTEM: "system", _USER: "user", _ASSISTANT: "assistant"}
_PIECE = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")


def chat_server_agent(
    server: ChatServer,
    *,
    sampling: SamplingParams | None = None,
    context_limit: int = 1 << 20,
    logprobs: bool = False,
    length_parameter: str = "max_tokens",
    **options: Any,
) -> ModelAgent:
    """An agent for evaluation behind a chat-only server.

    What it samples is counted as the server counts it, hidden reasoning included. What it reads is counted in words
    and punctuation marks, which are fewer than tokens, and so are the sections of its turns unless `logprobs` shows
    the tokens; what the run cost is in `server.usage`. A prompt that the server refuses is answered by an empty turn.

    Args:
        server: The server.
        sampling: How turns are sampled. The protocol knows no `top_k`.
        context_limit: Most words of a context and tokens of a turn together.
        logprobs: Ask for the log-probabilities of what it samples; without them they are NaN.
        length_parameter: The server's name for the most tokens of an answer: `max_tokens`, at OpenAI
            `max_completion_tokens`.
        options: What else a `ModelAgent` has, such as `window` and `sub_models`.

    Raises:
        ValueError: `sampling` has a `top_k`.
    """
    sampling = sampling or SamplingParams()
    if sampling.top_k:
        raise ValueError(f"chat servers take no top_k, found {sampling.top_k}: use top_p or temperature")
    form = ServerFormat()
    engine = ServerEngine(server, form, context_limit, logprobs, length_parameter)
    return ModelAgent(engine=engine, format=form, sampling=sampling, **{"name": server.name, **options})


class PieceTokenizer:
    """Numbers pieces of text as they come; the same piece has the same number for the life of the process."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ids: dict[bytes, int] = {}

    def encode(self, text: str) -> list[int]:
        """One id a word or punctuation mark, the space before it included."""
        return [self.id_of(piece.encode("utf-8", "replace")) for piece in _PIECE.findall(text)]

    encode_turn = encode

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each id adds; special ids add none, and a character is added by its last byte."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        texts = [decoder.decode(self.bytes_of(token_id)) for token_id in token_ids]
        if texts:
            texts[-1] += decoder.decode(b"", final=True)
        return texts

    def id_of(self, piece: bytes) -> int:
        """The number of a piece, which is new if the piece is."""
        token_id = self._ids.setdefault(piece, _ASSISTANT + 1 + len(self._pieces))
        if token_id == _ASSISTANT + 1 + len(self._pieces):
            self._pieces.append(piece)
        return token_id

    def bytes_of(self, token_id: int) -> bytes:
        """The piece with this number; empty for special ids."""
        return self._pieces[token_id - _ASSISTANT - 1] if token_id > _ASSISTANT else b""


class ServerFormat:
    """A context as messages: a role's id, the pieces of the message, `_END`."""

    stop_token_ids: tuple[int, ...] = (_END,)

    def __init__(self) -> None:
        self.pieces = PieceTokenizer()
        self.tokenizer: Tokenizer = self.pieces

    def opening(self, env: ToolEnv, carried: Sequence[list[int]] = (), observation: str = "") -> list[int]:
        """Instructions as the system message; task, what is carried over and the observation as the user's."""
        encode = self.pieces.encode
        system = [_SYSTEM, *encode(env.instructions), _END] if env.instructions else []
        user = encode(env.task_prompt())
        for paragraph in (*carried, encode(observation)):
            if paragraph:
                user += [*encode("\n\n"), *paragraph]
        return [*system, _USER, *user, _END, _ASSISTANT]

    def observation(self, text: str, turn_ended: bool) -> list[int]:
        """The observation as a user message."""
        return [*(() if turn_ended else (_END,)), _USER, *self.pieces.encode(text), _END, _ASSISTANT]

    def messages(self, token_ids: Sequence[int]) -> list[dict[str, str]]:
        """The conversation that a context spells, but for the turn that is about to begin.

        Raises:
            ValueError: the turn has begun already.
        """
        contents: list[tuple[str, bytearray]] = []
        for token_id in token_ids:
            if token_id in _ROLES:
                contents.append((_ROLES[token_id], bytearray()))
            else:
                contents[-1][1].extend(self.pieces.bytes_of(token_id))
        if contents.pop()[1]:
            raise ValueError("a chat-only server begins every turn itself: it cannot go on from the beginning of one")
        return [{"role": role, "content": content.decode("utf-8", "replace")} for role, content in contents]

    def sampled(self, done: Completion, most: int) -> Sample:
        """A turn in as many ids as the server counts tokens.

        Those that it does not show (hidden reasoning, parts of words) say nothing and come last, where they belong to
        no section.
        """
        shown = done.tokens
        if b"".join(piece for piece, _ in shown) != done.text.encode("utf-8", "replace"):
            shown = [(piece.encode("utf-8", "replace"), math.nan) for piece in _PIECE.findall(done.text)]
        room = min(most, max(1, done.output_tokens)) - (not done.cut)
        if len(shown) > room:
            # More words than tokens, or a server that ignores its limit: the last id says all the rest.
            rest = shown[max(0, room - 1) :]
            logprobs = [logprob for _, logprob in rest]
            shown = [*shown[: max(0, room - 1)], (b"".join(piece for piece, _ in rest), math.fsum(logprobs))]
        silent = max(0, room - len(shown))
        token_ids = [*(self.pieces.id_of(piece) for piece, _ in shown), *[_SILENT] * silent]
        logprobs = [*(logprob for _, logprob in shown), *[math.nan] * silent]
        if done.cut or len(token_ids) >= most:
            return Sample(token_ids, logprobs, FinishReason.LENGTH)
        return Sample([*token_ids, _END], [*logprobs, math.nan], FinishReason.STOP)


class ServerEngine:
    """Has a server continue the conversation that a context spells."""

    def __init__(
        self, server: ChatServer, format: ServerFormat, context_limit: int, logprobs: bool, length_parameter: str
    ) -> None:
        self.server, self.context_limit = server, context_limit
        self._format, self._logprobs, self._length_parameter = format, logprobs, length_parameter

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """The server's next message; an empty one where it refuses the conversation."""
        fields: dict[str, Any] = {self._length_parameter: params.max_tokens, "temperature": params.temperature}
        if params.top_p < 1:
            fields["top_p"] = params.top_p
        if params.seed is not None:
            fields["seed"] = params.seed
        if self._logprobs:
            fields["logprobs"] = True
        try:
            done = await self.server.complete(self._format.messages(prompt_ids), fields)
        except PromptRefused:
            return Sample([_END], [math.nan], FinishReason.STOP)
        return self._format.sampled(done, params.max_tokens)

    def release(self, session: str) -> None:
        """Nothing is kept: every request holds the whole conversation."""

    async def close(self) -> None:
        """Close the server's connections."""
        await self.server.close()
