"""Context formats: how tasks and observations become the tokens that a policy reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..envs.tool_env import ToolEnv
from .tokenizers import ByteTokenizer, Tokenizer, TransformersTokenizer, WordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ContextFormat(Protocol):
    """Frames what the policy reads. Every text is tokenised once, when it enters a context."""

    tokenizer: Tokenizer
    stop_token_ids: tuple[int, ...]
    """Tokens that end a turn; one of them is the last sampled token of a turn that was not cut."""

    def opening(self, env: ToolEnv, carried: Sequence[list[int]] = (), observation: str = "") -> list[int]:
        """The beginning of a context, up to where its first turn begins.

        Args:
            env: The environment, for its instructions and task.
            carried: What follows the task: sections of an earlier context of the same episode (plan, summary), as they
                were sampled.
            observation: What the policy reads after them.
        """
        ...

    def observation(self, text: str, turn_ended: bool) -> list[int]:
        """What follows a turn, up to where the next turn begins.

        Args:
            text: The observation.
            turn_ended: Whether the policy sampled a stop token; otherwise the turn is closed for it.
        """
        ...


class PlainFormat:
    """`<bos> task <turn> ... <eos> observation <turn> ... <eos>`: for models trained on nothing else."""

    def __init__(self, tokenizer: ByteTokenizer | WordTokenizer) -> None:
        self.tokenizer: Tokenizer = tokenizer
        self._bos, self._eos, self._turn = tokenizer.bos, tokenizer.eos, tokenizer.turn
        self.stop_token_ids: tuple[int, ...] = (tokenizer.eos,)

    def opening(self, env: ToolEnv, carried: Sequence[list[int]] = (), observation: str = "") -> list[int]:
        """`<bos> instructions task carried observation <turn>`."""
        return [self._bos, *_paragraphs(self.tokenizer, env.opening, carried, observation), self._turn]

    def observation(self, text: str, turn_ended: bool) -> list[int]:
        """`observation <turn>`."""
        ids = [*self.tokenizer.encode(text), self._turn]
        return ids if turn_ended else [self._eos, *ids]


class ChatFormat:
    """The chat template of a pretrained model: instructions as system message, observations as user messages.

    Raises:
        ValueError: the tokenizer has no chat template or no end-of-turn token.
    """

    _ASSISTANT, _USER = "\u241eassistant\u241e", "\u241euser\u241e"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.chat_template is None:
            raise ValueError("the tokenizer has no chat template; a pretrained chat model brings one")
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-turn token (eos_token)")
        self.tokenizer: Tokenizer = TransformersTokenizer(tokenizer)
        self._template = tokenizer
        # What the template puts around a user message that follows a turn: cut out of a conversation of place-holders.
        messages = [("user", "a"), ("assistant", self._ASSISTANT), ("user", self._USER)]
        after_turn = self._render(messages).rpartition(self._ASSISTANT)[2]
        before, found, after = after_turn.partition(self._USER)
        if not found:
            raise ValueError("the chat template drops user messages that follow an assistant message")
        self._before, self._after = self._framing(before), self._framing(after)
        # A base model's eos_token may be another than the one with which its template ends a turn: both stop it.
        special = self._before[:1] and self._before[0] in tokenizer.all_special_ids
        self._turn_end: int = self._before.pop(0) if special else tokenizer.eos_token_id
        self.stop_token_ids: tuple[int, ...] = tuple(dict.fromkeys((self._turn_end, tokenizer.eos_token_id)))

    def opening(self, env: ToolEnv, carried: Sequence[list[int]] = (), observation: str = "") -> list[int]:
        """System message with the instructions, user message with everything else, the assistant's header."""
        messages = [("user", self._USER)]
        if env.instructions:
            messages.insert(0, ("system", env.instructions))
        before, _, after = self._render(messages).rpartition(self._USER)
        user = _paragraphs(self.tokenizer, env.task_prompt(), carried, observation)
        return [*self._framing(before), *user, *self._framing(after)]

    def observation(self, text: str, turn_ended: bool) -> list[int]:
        """The observation as a user message, then the assistant's header."""
        ids = [*self._before, *self.tokenizer.encode(text), *self._after]
        return ids if turn_ended else [self._turn_end, *ids]

    def _render(self, messages: list[tuple[str, str]]) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        text = self._template.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return text

    def _framing(self, text: str) -> list[int]:
        ids: list[int] = self._template(text, add_special_tokens=False)["input_ids"]
        return ids


def _paragraphs(tokenizer: Tokenizer, prompt: str, carried: Sequence[list[int]], observation: str) -> list[int]:
    ids = tokenizer.encode(prompt)
    for part in (*carried, tokenizer.encode(observation)):
        if part:
            ids = [*ids, *tokenizer.encode("\n\n"), *part]
    return ids
