"""A model behind an engine as a text model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from forethought.agents import ByteTokenizer, ChatFormat, FinishReason, ModelAgent, PlainFormat, Sample, SamplingParams
from forethought.agents.context_format import ContextFormat
from forethought.agents.text_model import EngineTextModel, Prices, PromptRefused, TextModel
from forethought.envs.tools import ToolError
from forethought.sandboxes import InfrastructureFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Engine:
    """Says one turn to every prompt, cut where it must be."""

    def __init__(self, form: ContextFormat, text: str, context_limit: int = 10_000) -> None:
        self.turn = [*form.tokenizer.encode_turn(text), form.stop_token_ids[0]]
        self.context_limit = context_limit
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []
        self.gone = False

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        if self.gone:
            raise InfrastructureFault("the engine is gone")
        self.prompts.append(list(prompt_ids))
        self.params.append(params)
        ids = self.turn[: params.max_tokens]
        reason = FinishReason.STOP if ids == self.turn else FinishReason.LENGTH
        return Sample(ids, [0.0] * len(ids), reason)

    def release(self, session: str) -> None: ...

    async def close(self) -> None: ...


async def test_a_prompt_in_the_models_own_chat_format(chat_tokenizer: PreTrainedTokenizerBase) -> None:
    form = ChatFormat(chat_tokenizer)
    engine = Engine(form, "naïve 中文")
    agent = ModelAgent(engine=engine, format=form, sampling=SamplingParams(temperature=0.0, seed=3), name="big")
    model: TextModel = EngineTextModel(agent, prices=Prices(input=1.0, output=4.0))
    answer = await model.answer("what <|im_end|> is it?")
    shown = chat_tokenizer.decode(engine.prompts[0])
    assert shown == "<|im_start|>user\nwhat <|im_end|> is it?<|im_end|>\n<|im_start|>assistant\n"
    assert engine.prompts[0].count(form.stop_token_ids[0]) == 1  # the one in the prompt is plain text
    assert (model.name, answer.text) == ("big", "naïve 中文")
    assert (answer.input_tokens, answer.output_tokens) == (len(engine.prompts[0]), len(engine.turn))
    assert answer.cost == pytest.approx((answer.input_tokens + 4 * answer.output_tokens) / 1e6)
    assert (engine.params[0].temperature, engine.params[0].seed) == (0.0, 3)
    assert engine.params[0].stop_token_ids == form.stop_token_ids


async def test_an_answer_may_be_cut_and_a_prompt_too_long() -> None:
    form = PlainFormat(ByteTokenizer())
    engine = Engine(form, "a long answer", context_limit=10)
    model = EngineTextModel(ModelAgent(engine=engine, format=form), name="small")
    answer = await model.answer("12345")  # <bos> 12345 <turn>: room for 3
    assert (answer.text, answer.input_tokens, answer.output_tokens, answer.cost) == ("a l", 7, 3, 0.0)
    with pytest.raises(PromptRefused, match="the prompt has 10 tokens; small reads fewer than 10"):
        await model.answer("12345678")
    assert issubclass(PromptRefused, ToolError)  # the policy reads it


async def test_a_fault_of_the_engine_is_not_an_answer() -> None:
    form = PlainFormat(ByteTokenizer())
    engine = Engine(form, "x")
    engine.gone = True
    with pytest.raises(InfrastructureFault):
        await EngineTextModel(ModelAgent(engine=engine, format=form)).answer("?")
