"""The recipe for a pretrained chat model, with a tiny one in its place: JSON turns, chat template, search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs TRL: pip install forethought[train]")
pytest.importorskip("tantivy", reason="needs tantivy: pip install forethought[search]")

from forethought.agents import EpisodeStore
from forethought.trainers.cli import main
from forethought.trainers.training_log import read_log

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "musique.toml"
MARKERS = [f"<{slash}{name}>" for name in ("plan", "think", "answer", "tool_call") for slash in ("", "/")]
CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights, a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *MARKERS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator([RECIPE.parents[2].joinpath("envs", "instructions.py").read_text("utf-8")] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=rust, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("chat") / "model"
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six questions in MuSiQue's form, and their corpus."""
    folder = tmp_path_factory.mktemp("data")
    questions, corpus = [], []
    for i, (film, director, city) in enumerate(
        [("Aldo", "Ada", "Rome"), ("Brim", "Bob", "Oslo"), ("Cusp", "Cem", "Lima")] * 2
    ):
        film, director = f"{film}{i}", f"{director}{i}"
        texts = [(film, f"{film} is a film directed by {director}."), (director, f"{director} was born in {city}.")]
        hops = [(f"Who directed {film}?", director), ("Where was #1 born?", city)]
        corpus += [{"title": title, "text": text} for title, text in texts]
        questions.append(
            {
                "id": f"q{i}", "question": f"Where was the director of {film} born?", "answer": city,
                "answer_aliases": [], "answerable": True,
                "paragraphs": [
                    {"idx": j, "title": title, "paragraph_text": text, "is_supporting": True}
                    for j, (title, text) in enumerate(texts)
                ],
                "question_decomposition": [
                    {"id": j, "question": question, "answer": answer, "paragraph_support_idx": j}
                    for j, (question, answer) in enumerate(hops)
                ],
            }
        )  # fmt: skip
    for name, rows in (("corpus.jsonl", corpus), ("train.jsonl", questions[:4]), ("dev.jsonl", questions[4:])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def _overrides(model: Path, data: Path, folder: Path) -> list[str]:
    return [
        f"output={folder}", "device=cpu", f"model.path={model}", f"env.kwargs.corpus={data / 'corpus.jsonl'}",
        f"env.kwargs.questions={data / 'train.jsonl'}", f"eval.0.kwargs.questions={data / 'dev.jsonl'}",
        "env.kwargs.budget={turns = 5, tool_calls = 8}", "sampling.max_turn_tokens=24", "sampling.context_limit=2048",
        "sampling.slots=8", "traces.episodes=8", "sft.trainer.max_steps=2", "sft.trainer.logging_steps=1",
        "sft.trainer.bf16=false",
        "sft.trainer.gradient_accumulation_steps=1", "sft.trainer.warmup_steps=0", "filter.tasks=4",
        "filter.attempts=2", "filter.keep=[0, 1]", "grpo.trainer.max_steps=2", "grpo.trainer.num_generations=2",
        "grpo.trainer.per_device_train_batch_size=4", "grpo.trainer.bf16=false",
        "grpo.trainer.mask_unfinished_below=0.01",
        "grpo.trainer.learning_rate=1e-3", "grpo.length_penalty.start_accuracy=0", "grpo.save_episodes_every=1",
        "eval.0.attempts=2", "ablations=[]",
    ]  # fmt: skip


def test_a_dry_run_needs_the_data(
    chat_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = _overrides(chat_model, data, tmp_path / "run")
    assert main(["run", str(RECIPE), *overrides, "env.kwargs.corpus=nowhere.jsonl", "--dry-run"]) == 1
    assert "corpus 'nowhere.jsonl' cannot be read: No such file or directory" in capsys.readouterr().err
    assert main(["run", str(RECIPE), *overrides, "--dry-run"]) == 0
    assert "gold_decomposition" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_from_traces_to_replay(
    chat_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["run", str(RECIPE), *_overrides(chat_model, data, folder)]) == 0

    traces = list(EpisodeStore(folder / "traces"))
    assert len(traces) == 8
    assert all(e.reward == 1.0 and e.scores["support"] == 1.0 and e.plans[0].steps[1]["after"] == [1] for e in traces)
    assert all([call.name for turn in e.turns for call in turn.calls] == ["search", "open"] * 2 for e in traces)
    assert len(read_log(folder / "sft" / "log.jsonl")) >= 1
    assert [entry["step"] for entry in read_log(folder / "grpo" / "rl" / "log.jsonl")] == [1, 2]
    assert len(list(EpisodeStore(folder / "eval" / "held-out" / "rl"))) == 4
    assert (folder / "report.html").exists()

    capsys.readouterr()
    for stage, count in (("traces", 8), ("eval/held-out/rl", 4), ("grpo/rl/episodes/step-000001", 4)):
        assert main(["replay", str(folder / stage)]) == 0
        assert f"{count} episodes replayed, 0 differ" in capsys.readouterr().out
    output = ["--out", str(tmp_path / "eval"), "--tasks", "1", "--max-turn-tokens", "8", "--concurrency", "2"]
    search = [f"corpus={data / 'corpus.jsonl'}", f"questions={data / 'dev.jsonl'}", "budget={turns = 1}"]
    assert (
        main(["eval", "forethought/Search-v0", str(folder / "grpo" / "rl" / "model"), *output, "--set", *search]) == 0
    )
    assert "1 (1 tasks)" in capsys.readouterr().out
