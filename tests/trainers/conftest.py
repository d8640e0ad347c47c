"""Offline, one thread per process; a recipe that runs in seconds."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# TRL 1.16 still reads a name that transformers 5.23 has deprecated.
TRL_READS_OLD_NAME = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore this one warning in the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(TRL_READS_OLD_NAME))


TINY = """
name = "tiny"
device = "cpu"
oracle = "forethought.envs.pointer.scripts:oracle"
notes = ["Far too small to learn anything: <a few> steps."]

[env]
id = "forethought/Pointer-v0"
kwargs = { hops = [0, 2], symbols = 4, budget = { turns = 1 } }

[model]
architecture = "gpt2"

[model.config]
n_embd = 32
n_layer = 1
n_head = 2
n_inner = 64
n_positions = 64
initializer_range = 0.1
resid_pdrop = 0.0
embd_pdrop = 0.0
attn_pdrop = 0.0

[sampling]
max_turn_tokens = 16
slots = 32

[traces]
script = "forethought.envs.pointer.scripts:oracle"
episodes = 256

[sft.trainer]
max_steps = 60
per_device_train_batch_size = 16
learning_rate = 2e-2
adam_beta2 = 0.98
logging_steps = 1
save_steps = 5

[filter]
tasks = 16
attempts = 2
keep = [0.0, 1.0]
skip = 256

[grpo]
length_penalty = { weight = 0.5, max_tokens = 12 }
save_episodes_every = 2

[grpo.trainer]
max_steps = 12
num_generations = 4
per_device_train_batch_size = 16
max_completion_length = 16
learning_rate = 1e-3
save_steps = 2

[[ablations]]
name = "no penalty"
set = ["grpo.length_penalty.weight=0"]

[[eval]]
name = "held-out"
kwargs = { split = "test" }
tasks = 20

[[targets]]
name = "it is right"
eval = "held-out"
metric = "accuracy"
min = 0.99
"""


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe of every stage."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, "utf-8")
    return path
