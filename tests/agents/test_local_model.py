from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install forethought[train]")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from forethought.agents import EnvSpec, PlainFormat, SamplingParams, collect_rollouts
from forethought.agents.context_format import ChatFormat
from forethought.agents.local_model import ModelError, choose_device, format_for, load_model_agent, model_agent
from forethought.agents.rollout import EpisodeRequest
from forethought.agents.tokenizers import WordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPEC = EnvSpec(id="forethought/Pointer-v0", kwargs={"hops": [0, 2]})


def _model(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=16, n_layer=1, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=1
    )
    return GPT2LMHeadModel(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "tiny"
    words = WordTokenizer(SPEC.make().vocabulary())
    _model(len(words.words)).save_pretrained(path)
    words.to_transformers().save_pretrained(path)
    return path


async def test_a_saved_model_plays_episodes(folder: Path) -> None:
    agent = load_model_agent(folder, sampling=SamplingParams(max_tokens=8), device="cpu", slots=3, context_limit=100)
    assert agent.name == "tiny" and agent.engine.context_limit == 100 and isinstance(agent.format, PlainFormat)
    tasks = SPEC.make().tasks
    requests = [EpisodeRequest(task=tasks[i]) for i in range(5)]
    episodes = await collect_rollouts(requests, SPEC, agent)
    assert [episode.task_id for episode in episodes] == [tasks[i].id for i in range(5)]
    assert all(0 < len(turn.text.split()) <= 8 for episode in episodes for turn in episode.turns)
    again = await collect_rollouts(requests, SPEC, load_model_agent(folder, sampling=agent.sampling, device="cpu"))
    assert [e.segments[0].token_ids for e in again] == [e.segments[0].token_ids for e in episodes]
    await agent.engine.close()


async def test_a_live_model_is_sampled_with_its_present_weights(folder: Path) -> None:
    model = _model(len(WordTokenizer(SPEC.make().vocabulary()).words))
    model.train(False)
    agent = model_agent(model, format_for(folder), sampling=SamplingParams(max_tokens=4, temperature=0.0))
    request = EpisodeRequest(task=SPEC.make().tasks[0])
    (before,) = await collect_rollouts([request], SPEC, agent)
    word = agent.format.tokenizer.encode("table")[0]
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(1000 * model.transformer.wte.weight[word])
    (after,) = await collect_rollouts([request], SPEC, agent)
    assert after.turns[0].text == "table table table table" != before.turns[0].text


def test_a_chat_model_has_its_template(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerBase) -> None:
    chat_tokenizer.save_pretrained(tmp_path)
    _model(len(chat_tokenizer)).save_pretrained(tmp_path)
    assert isinstance(format_for(tmp_path), ChatFormat)
    assert isinstance(load_model_agent(tmp_path, device="cpu").format, ChatFormat)


def test_what_is_no_model(tmp_path: Path, folder: Path, chat_tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    chat_tokenizer.save_pretrained(broken)
    (broken / "config.json").write_text("{}")
    no_template = tmp_path / "no_template"
    _model(len(chat_tokenizer)).save_pretrained(no_template)
    chat_tokenizer.save_pretrained(no_template)
    (no_template / "chat_template.jinja").unlink()
    for path, message in (
        (tmp_path / "missing", "there is no such folder"),
        (tmp_path / "empty", "no config.json"),
        (broken, "cannot load a model from"),
        (no_template, "no chat template"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            load_model_agent(path, device="cpu")
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_limits_that_the_model_cannot_hold(folder: Path) -> None:
    with pytest.raises(ModelError, match="exceeds the 128 positions"):
        load_model_agent(folder, device="cpu", context_limit=4096)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_without_a_gpu(folder: Path) -> None:
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(ModelError, match="torch sees no GPU"):
        load_model_agent(folder, device="cuda")
