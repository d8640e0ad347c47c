"""Sampling throughput of the torch engine beside what else samples from a transformers model on this machine.

    pip install forethought[train]
    OMP_NUM_THREADS=1 python examples/benchmarks/engine_throughput.py --threads 1

All engines sample the same number of tokens for the same prompts from the same random Qwen3 model, one after the other
within each repeat, so that a busy machine slows all of them alike. Ratios are medians over the repeats of (ours over
theirs in the same repeat). vLLM joins in when it can be imported.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import importlib.util
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from forethought.agents.engine import SamplingParams
from forethought.agents.engines.torch_engine import TorchEngine

Prompts = list[list[int]]
Sampler = Callable[[Prompts, int], int]
"""Samples so many tokens for each prompt; returns how many it sampled in all."""

MODELS: dict[str, dict[str, Any]] = {
    "0.5M": {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256, "vocab_size": 2048},
    "1M": {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 384, "vocab_size": 2048},
    "6M": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 768, "vocab_size": 4096},
}
CONTEXT = 1024


def make_model(size: str) -> Any:
    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    config = Qwen3Config(
        **MODELS[size],
        **heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model: Any = Qwen3ForCausalLM(config)
    return model.eval()


def ours(model: Any, batch: int) -> Sampler:
    engine = TorchEngine(model, max_slots=batch, context_limit=CONTEXT)

    async def all_of(prompts: Prompts, new_tokens: int) -> int:
        params = SamplingParams(max_tokens=new_tokens)
        samples = await asyncio.gather(*(engine.sample(prompt, params) for prompt in prompts))
        return sum(len(sample.token_ids) for sample in samples)

    return lambda prompts, new_tokens: asyncio.run(all_of(prompts, new_tokens))


def generation_config(new_tokens: int, **changes: Any) -> GenerationConfig:
    kind: Any = GenerationConfig
    config: GenerationConfig = kind(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new_tokens, pad_token_id=0, **changes
    )
    return config


def hf_generate(model: Any) -> Sampler:
    def sample(prompts: Prompts, new_tokens: int) -> int:
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        attention = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            attention[row, width - len(prompt) :] = 1
        config = generation_config(new_tokens)
        output = model.generate(input_ids=ids, attention_mask=attention, generation_config=config)
        return len(prompts) * (int(output.shape[1]) - width)

    return sample


def hf_continuous_batching(model: Any, batch: int) -> Sampler:
    from transformers import ContinuousBatchingConfig

    # It changes the model's attention implementation, and by default takes 60 % of the memory for its cache.
    own = copy.deepcopy(model)
    paging = ContinuousBatchingConfig(num_blocks=batch * 256 // 32 * 2, max_batch_tokens=2048, return_logprobs=True)

    def sample(prompts: Prompts, new_tokens: int) -> int:
        outputs = own.generate_batch(
            inputs=prompts,
            generation_config=generation_config(new_tokens, eos_token_id=-1),
            continuous_batching_config=paging,
            persistent_manager=True,
        )
        return sum(len(output.generated_tokens) for output in outputs.values())

    return sample


def vllm(model: Any) -> Sampler:
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_CPU_KVCACHE_SPACE="1",
        TORCH_COMPILE_DISABLE="1",
        VLLM_LOGGING_LEVEL="ERROR",
    )
    from vllm import LLM
    from vllm import SamplingParams as Params

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        llm = LLM(folder, dtype="float32", enforce_eager=True, skip_tokenizer_init=True, max_model_len=CONTEXT)

    def sample(prompts: Prompts, new_tokens: int) -> int:
        params = Params(max_tokens=new_tokens, ignore_eos=True, logprobs=0, detokenize=False)
        outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return sample


def measure(engines: dict[str, Sampler], prompts: Prompts, new_tokens: int, repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each engine in each repeat."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for sample in engines.values():
        sample(prompts, 4)
    for _ in range(repeats):
        for name, sample in engines.items():
            started = time.perf_counter()
            tokens = sample(prompts, new_tokens)
            speeds[name].append(tokens / (time.perf_counter() - started))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["0.5M", "1M"])
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--prompt-tokens", nargs=2, type=int, default=[32, 95], metavar=("LEAST", "MOST"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip", nargs="+", choices=["generate", "continuous batching", "vllm"], default=[])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in ("transformers", "ContinuousBatchingLogger"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rng = random.Random(0)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} thread(s)")
    print(f"{'model':6} {'batch':>5}  {'engine':20} {'median tok/s':>12} {'best tok/s':>11} {'ours / it':>9}")
    for size in args.models:
        model = make_model(size)
        for batch in args.batches:
            prompts = [[rng.randrange(5, 2000) for _ in range(rng.randint(*args.prompt_tokens))] for _ in range(batch)]
            engines = {"ours": ours(model, batch)}
            if "generate" not in args.skip:
                engines["generate"] = hf_generate(model)
            if "continuous batching" not in args.skip:
                engines["continuous batching"] = hf_continuous_batching(model, batch)
            if "vllm" not in args.skip and importlib.util.find_spec("vllm") is not None:
                engines["vllm"] = vllm(model)
            speeds = measure(engines, prompts, args.new_tokens, args.repeats)
            for name, values in speeds.items():
                ratio = statistics.median(own / other for own, other in zip(speeds["ours"], values, strict=True))
                speed = f"{statistics.median(values):12,.0f} {max(values):11,.0f}"
                print(f"{size:6} {batch:>5}  {name:20} {speed} {ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()
