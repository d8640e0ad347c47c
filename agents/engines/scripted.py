"""An engine that says what a script says."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ...envs.tool_env import ToolEnv
from ..context_format import ContextFormat
from ..engine import FinishReason, Sample, SamplingParams


class ScriptedEngine:
    """Runs one script for one episode.

    The script yields turns and is sent what the policy reads then; when it ends before the episode does, it has
    nothing more to say and an empty turn is sampled.

    Args:
        env: The environment of the episode, after `reset`.
        script: The running script.
        format: Tokenises the turns.
    """

    context_limit = 2**31 - 1

    def __init__(self, env: ToolEnv, script: Generator[str, str, None], format: ContextFormat) -> None:
        self._env = env
        self._script = script
        self._format = format
        self._started = False

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """The script's next turn, cut at `params.max_tokens`; every log-probability is 0: the script was certain."""
        try:
            text = self._script.send(self._env.observation) if self._started else next(self._script)
        except StopIteration:
            text = ""
        self._started = True
        token_ids = [*self._format.tokenizer.encode_turn(text), self._format.stop_token_ids[0]]
        reason = FinishReason.STOP
        if len(token_ids) > params.max_tokens:
            token_ids, reason = token_ids[: params.max_tokens], FinishReason.LENGTH
        return Sample(token_ids, [0.0] * len(token_ids), reason)

    def release(self, session: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """End the script."""
        self._script.close()
