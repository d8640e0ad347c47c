"""A small environment with tools, registered for these tests, and a small chat tokenizer made offline."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

from forethought.agents import EnvSpec
from forethought.envs import Task, ToolEnv, tool
from forethought.sandboxes import InfrastructureFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class EchoEnv(ToolEnv):
    """Echo a word, then answer it."""

    outages = 0
    """How many more calls of `unreliable` fail, in all instances."""

    def __init__(self, **options: Any) -> None:
        super().__init__([Task(id=f"e{i}", prompt=f"echo word{i}", answer=f"word{i}") for i in range(100)], **options)

    @tool(timeout=None)
    def echo(self, text: str) -> str:
        """Give the text back."""
        return text

    @tool(timeout=20)
    async def echo_later(self, text: str, seconds: float = 0.0) -> str:
        """Give the text back after a while."""
        await asyncio.sleep(seconds)
        return text

    @tool(timeout=None)
    def unreliable(self) -> str:
        """Work, or not."""
        if EchoEnv.outages > 0:
            EchoEnv.outages -= 1
            raise InfrastructureFault("the echo server is gone")
        return "up"

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer), "answered": float(answer is not None)}


@pytest.fixture
def echo_spec() -> Iterator[EnvSpec]:
    gymnasium.register("tests/Echo-v0", EchoEnv)
    EchoEnv.outages = 0
    yield EnvSpec(id="tests/Echo-v0")
    del gymnasium.registry["tests/Echo-v0"]


@pytest.fixture
def set_outages(echo_spec: EnvSpec) -> Any:
    def set_to(count: int) -> None:
        EchoEnv.outages = count

    return set_to


SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = tuple(
    f"<{slash}{name}>"
    for name in ("plan", "think", "answer", "tool_call", "tool_response", "summary")
    for slash in ("", "/")
)
CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.fixture(scope="session")
def chat_tokenizer() -> "PreTrainedTokenizerBase":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    corpus = ["user assistant system plan think answer the echo of word", '{"name": "echo", "arguments": {}}'] * 50
    rust.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=[*SPECIAL, *MARKERS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=rust, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless; the module is skipped where there is none."""
    sync_api: Any = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield browser
        browser.close()
