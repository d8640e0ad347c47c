"""Recipes: one TOML file holds a whole training run, from plan traces to the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..agents.env_spec import EnvSpec
from .toml_tables import ConfigError, Source, apply_overrides, build, read_toml


@dataclass(frozen=True, kw_only=True)
class EnvTable:
    """`[env]`: the environment that is trained on."""

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def spec(self, **overrides: Any) -> EnvSpec:
        """The environment, with some arguments replaced."""
        return EnvSpec(id=self.id, kwargs=self.kwargs | overrides)


@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """`[model]`: a model built from scratch, or a folder or hub name of one that exists."""

    path: str | None = None
    """Where a pretrained model and its tokenizer are."""
    architecture: str | None = None
    """A model type of transformers (`llama`, `qwen3`, ...) to build with random weights and the environment's words."""
    config: dict[str, Any] = field(default_factory=dict)
    """Fields of the architecture's configuration."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.architecture is None):
            raise ValueError("give either 'path' (a model that exists) or 'architecture' (a model built from scratch)")


@dataclass(frozen=True, kw_only=True)
class SamplingTable:
    """`[sampling]`: how turns are sampled, in training and evaluation alike."""

    max_turn_tokens: int = 512
    temperature: float = 1.0
    context_limit: int | None = None
    slots: int = 256
    """Most turns sampled at once."""


@dataclass(frozen=True, kw_only=True)
class TracesTable:
    """`[traces]`: plan traces made by a scripted policy, for supervised fine-tuning."""

    script: str
    """`module:function` of the script."""
    episodes: int


@dataclass(frozen=True, kw_only=True)
class SFTTable:
    """`[sft]`: supervised fine-tuning on the traces."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Fields of TRL's `SFTConfig`."""


@dataclass(frozen=True, kw_only=True)
class FilterTable:
    """`[filter]`: keep tasks by the pass rate of the model before reinforcement learning."""

    tasks: int
    attempts: int = 8
    keep: tuple[float, float] = (0.1, 0.9)
    """Smallest and largest pass rate of a task that is kept, both included."""
    skip: int = 0
    """Tasks at the beginning of the split to leave out, for example those that the traces were made from."""


@dataclass(frozen=True, kw_only=True)
class LengthPenaltyTable:
    """`[grpo.length_penalty]`: see `forethought.trainers.rewards.LengthPenalty`."""

    weight: float
    max_tokens: int
    start_accuracy: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GRPOTable:
    """`[grpo]`: reinforcement learning from episode rewards."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Fields of `EpisodeGRPOConfig`, which extends TRL's `GRPOConfig`."""
    length_penalty: LengthPenaltyTable | None = None
    save_episodes_every: int = 25
    """Steps between those whose episodes are kept in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """`[[ablations]]`: the reinforcement learning again with something changed."""

    name: str
    set: list[str]
    """Overrides, such as `grpo.length_penalty.weight=0`."""


@dataclass(frozen=True, kw_only=True)
class EvalTable:
    """`[[eval]]`: what is measured before and after, on tasks that nothing was trained on."""

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment to replace, such as `split` or a harder range."""
    tasks: int = 1000
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """`[[targets]]`: a threshold that was fixed before the run."""

    name: str
    eval: str
    metric: str
    """Dotted name of a number in the report card."""
    run: str = "RL"
    """`SFT`, `RL` or the name of an ablation."""
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    output: str = ""
    """Folder of the run; `runs/<name>` when empty."""
    seed: int = 0
    processes: int = 1
    """How many of the reinforcement learning runs (the main one and the ablations) go on at the same time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    env: EnvTable
    model: ModelTable
    sampling: SamplingTable = field(default_factory=SamplingTable)
    traces: TracesTable | None = None
    sft: SFTTable | None = None
    filter: FilterTable | None = None
    grpo: GRPOTable | None = None
    ablations: list[AblationTable] = field(default_factory=list)
    eval: list[EvalTable] = field(default_factory=list)
    targets: list[TargetTable] = field(default_factory=list)
    oracle: str | None = None
    """`module:function` of a script that spends what each task needs and no more, evaluated for comparison."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the report must know to judge it, a paragraph each."""

    def __post_init__(self) -> None:
        if self.sft is not None and self.traces is None:
            raise ValueError("[sft] needs [traces] to train on")
        names = [ablation.name for ablation in self.ablations]
        if len({*names, "RL", "SFT"}) != len(names) + 2:
            raise ValueError(f"ablations need names that differ, and neither 'RL' nor 'SFT'; found {names}")
        for target in self.targets:
            if target.eval not in [e.name for e in self.eval]:
                raise ValueError(f"target {target.name!r} names an [[eval]] {target.eval!r} that is not there")

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.output or f"runs/{self.name}")

    def to_tables(self) -> dict[str, Any]:
        """The resolved recipe as TOML tables, without what is not set."""
        tables: dict[str, Any] = _without_none(dataclasses.asdict(self))
        return tables


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as `seed=1`.

    Raises:
        ConfigError: the file or an override is wrong.
    """
    tables, source = read_toml(path)
    apply_overrides(tables, overrides)
    recipe = build(Recipe, tables, source)
    _check_trainer_tables(recipe, source)
    return recipe


def ablated(recipe: Recipe, ablation: AblationTable) -> Recipe:
    """The recipe with the overrides of one of its ablations.

    Raises:
        ConfigError: an override does not fit.
    """
    tables = recipe.to_tables()
    apply_overrides(tables, ablation.set)
    return build(Recipe, tables, Source(f"ablation {ablation.name!r}", ""))


def _check_trainer_tables(recipe: Recipe, source: Source) -> None:
    """Check the keys that are passed on to TRL's configurations; without TRL they are checked when it is needed."""
    from .extras import MissingExtra, import_extra
    from .toml_tables import check_key

    tables = (
        ("sft", recipe.sft, "trl", "SFTConfig"),
        ("grpo", recipe.grpo, "forethought.trainers.grpo", "EpisodeGRPOConfig"),
    )
    for name, table, module, config in tables:
        if table is None or not table.trainer:
            continue
        try:
            fields = [f.name for f in dataclasses.fields(getattr(import_extra(module, "train"), config))]
        except MissingExtra:
            return
        for key in table.trainer:
            check_key(key, fields, source, (name, "trainer", key), f"[{name}.trainer] ({config})")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value


__all__ = ["AblationTable", "ConfigError", "EvalTable", "Recipe", "ablated", "load_recipe"]
