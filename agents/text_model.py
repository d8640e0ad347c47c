"""Models that answer a text with a text: frozen sub-models and judges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ..envs.protocol import Spelling
from ..envs.tasks import Task
from ..envs.tool_env import ToolEnv
from ..envs.tools import ToolError

if TYPE_CHECKING:
    from .agent import ModelAgent


class PromptRefused(ToolError):
    """The model is there and does not answer this prompt: it is too long, or the model declines. Never retried.

    It is what the policy asked that failed, so the policy reads the message.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Money for a million tokens, in any unit as long as all prices of a run have the same."""

    input: float = 0.0
    output: float = 0.0

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """Money for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer:
    """What a model answered, and what it took."""

    text: str
    input_tokens: int
    output_tokens: int
    """Those that the reader never sees (hidden reasoning, the end of the turn) included."""
    cost: float
    """In the unit of the model's `Prices`."""


class TextModel(Protocol):
    """Answers a text with a text: a frozen sub-model, or a whole agent behind a server."""

    name: str

    async def answer(self, prompt: str) -> TextAnswer:
        """Answer one prompt; calls are concurrent.

        Raises:
            PromptRefused: the model does not answer this prompt.
            InfrastructureFault: the model cannot be reached, now or with these settings.
        """
        ...


class EngineTextModel:
    """A model behind an engine as a text model: a prompt in the model's own chat format, one turn, no protocol.

    Args:
        agent: The model, its format, and how it samples. With a seed in `agent.sampling` the same prompt has the same
            answer.
        prices: What its tokens cost.
        name: The agent's name by default.
    """

    def __init__(self, agent: ModelAgent, *, prices: Prices | None = None, name: str | None = None) -> None:
        self.name = name or agent.name
        self.prices = prices or Prices()
        self._agent = agent

    async def answer(self, prompt: str) -> TextAnswer:
        """See `TextModel`."""
        agent, form = self._agent, self._agent.format
        prompt_ids = form.opening(_prompt_env(prompt))
        room = agent.engine.context_limit - len(prompt_ids)
        if room < 1:
            raise PromptRefused(
                f"the prompt has {len(prompt_ids)} tokens; {self.name} reads fewer than {agent.engine.context_limit}"
            )
        params = replace(
            agent.sampling, max_tokens=min(room, agent.sampling.max_tokens), stop_token_ids=form.stop_token_ids
        )
        sample = await agent.engine.sample(prompt_ids, params)
        ended = bool(sample.token_ids) and sample.token_ids[-1] in form.stop_token_ids
        spoken = sample.token_ids[:-1] if ended else sample.token_ids
        return TextAnswer(
            text="".join(form.tokenizer.pieces(spoken)),
            input_tokens=len(prompt_ids),
            output_tokens=len(sample.token_ids),
            cost=self.prices.cost(len(prompt_ids), len(sample.token_ids)),
        )


class _PromptEnv(ToolEnv):
    """What a context format opens a context for: a prompt, without instructions or tools."""

    def score(self, answer: str | None) -> dict[str, float]:
        """Nothing."""
        return {}


def _prompt_env(prompt: str) -> ToolEnv:
    # The spelling `words` brings no instructions.
    env = _PromptEnv([Task(id="prompt", prompt=prompt)], spelling=Spelling.WORDS)
    env.reset()
    return env
