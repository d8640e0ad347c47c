"""Recipes: one TOML file holds a whole training run, from plan traces to the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..agents.context_window import ContextWindow
from ..agents.env_spec import EnvSpec
from ..agents.evaluation import ReportCard
from .extras import MissingExtra, import_extra
from .names import MAIN_RUN, ORACLE_RUN, START_RUN, slug
from .rewards import DelegationBonus, LatencyBonus, LengthPenalty, RandomReward, ShuffledRewards
from .toml_tables import ConfigError, Source, apply_overrides, build, check_fields, read_toml

_ABLATABLE = ("env", "sampling", "window", "seed", "grpo")
"""What an ablation may change: everything else was done once, before the runs that are compared."""


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
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the weights of a pretrained model are trained in; `auto` is what they were saved in."""
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

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_turn_tokens", "slots")
        _at_least(self, 0, "temperature")


@dataclass(frozen=True, kw_only=True)
class WindowTable:
    """`[window]`: what happens when a context is full; see `forethought.agents.context_window.ContextWindow`."""

    limit: int | None = None
    policy: Literal["none", "learned", "truncate", "keep_recent"] = "none"
    summary_tokens: int | None = None
    turn_tokens: int | None = None
    segments: int | None = None
    recent: int = 4

    def __post_init__(self) -> None:
        self.window()

    def window(self) -> ContextWindow:
        """The window."""
        return ContextWindow(**dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class TracesTable:
    """`[traces]`: plan traces made by a scripted policy, for supervised fine-tuning."""

    script: str
    """`module:function` of the script."""
    episodes: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "episodes")


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

    def __post_init__(self) -> None:
        _at_least(self, 1, "tasks", "attempts")
        _at_least(self, 0, "skip")
        if not 0 <= self.keep[0] <= self.keep[1] <= 1:
            raise ValueError(f"keep must be [smallest, largest] within 0 to 1, found {list(self.keep)}")


@dataclass(frozen=True, kw_only=True)
class GRPOTable:
    """`[grpo]`: reinforcement learning from episode rewards."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Fields of `EpisodeGRPOConfig`, which extends TRL's `GRPOConfig`."""
    latency_bonus: LatencyBonus | None = None
    """Rewards that depend on a group or on the step: see `forethought.trainers.rewards`, also for the order."""
    length_penalty: LengthPenalty | None = None
    delegation_bonus: DelegationBonus | None = None
    random_reward: RandomReward | None = None
    shuffled_rewards: ShuffledRewards | None = None
    save_episodes_every: int = 25
    """Steps between those whose episodes are kept in the run's folder."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "save_episodes_every")


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
    window: WindowTable | None = None
    """A context window in place of the recipe's."""
    intervention: Literal["swap_summaries", "swap_answers"] | None = None
    """A causal test: see `forethought.agents.interventions`."""
    tasks: int = 1000
    attempts: int = 1

    def __post_init__(self) -> None:
        _at_least(self, 1, "tasks", "attempts")


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

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError(f"target {self.name!r} needs 'min' or 'max'")
        place: Any = ReportCard().to_dict()
        for part in self.metric.split("."):
            if place and part not in place:
                raise ValueError(
                    f"target {self.name!r}: a report card has no {self.metric!r}; there are {', '.join(place)}"
                )
            place = place.get(part) if place else None
            if not isinstance(place, dict):
                place = None


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
    window: WindowTable = field(default_factory=WindowTable)
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
        _at_least(self, 1, "processes")
        if not slug(self.name):
            raise ValueError(f"name must have letters or digits, found {self.name!r}")
        if self.ablations and self.grpo is None:
            raise ValueError("[[ablations]] need [grpo] to do again")
        _distinct("ablations", [a.name for a in self.ablations], {MAIN_RUN, START_RUN, ORACLE_RUN})
        _distinct("evaluations", [e.name for e in self.eval], set())
        runs = [START_RUN, *self.runs]
        for target in self.targets:
            if target.eval not in [e.name for e in self.eval]:
                raise ValueError(f"target {target.name!r} names an [[eval]] {target.eval!r} that is not there")
            if target.run not in runs:
                raise ValueError(f"target {target.name!r} names a run {target.run!r}; the runs are {', '.join(runs)}")

    @property
    def runs(self) -> list[str]:
        """Names of the reinforcement learning runs: the main one first, then the ablations."""
        return [] if self.grpo is None else [MAIN_RUN, *(ablation.name for ablation in self.ablations)]

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
    source = Source(source.name, source.text, tuple(overrides))
    recipe = build(Recipe, tables, source)
    _check_trainer_tables(recipe, source)
    for i, ablation in enumerate(recipe.ablations):
        try:
            _check_trainer_tables(ablated(recipe, ablation), Source("with its overrides", "", ablation.set))
        except ConfigError as error:
            raise ConfigError(f"{source.at(('ablations', i, 'set'))}: ablation {ablation.name!r}: {error}") from None
    return recipe


def ablated(recipe: Recipe, ablation: AblationTable) -> Recipe:
    """The recipe with the overrides of one of its ablations.

    Raises:
        ConfigError: an override does not fit.
    """
    tables = recipe.to_tables()
    apply_overrides(tables, ablation.set)
    for override in ablation.set:
        table = override.partition("=")[0].partition(".")[0].strip()
        if table not in _ABLATABLE:
            raise ConfigError(
                f"override {override!r}: an ablation does the reinforcement learning again, it can change "
                f"{', '.join(_ABLATABLE)}"
            )
    return build(Recipe, tables, Source("with its overrides", "", ablation.set))


def _check_trainer_tables(recipe: Recipe, source: Source) -> None:
    """Check what is passed on to TRL's configurations; without TRL it is checked when it is needed."""
    for name, table, module, config in (
        ("sft", recipe.sft, "trl", "SFTConfig"),
        ("grpo", recipe.grpo, "forethought.trainers.grpo", "EpisodeGRPOConfig"),
    ):
        if table is None or not table.trainer:
            continue
        try:
            fields = getattr(import_extra(module, "train"), config)
        except MissingExtra:
            return
        where = f"[{name}.trainer] ({config})"
        for key, owner in _SET_BY_THE_RECIPE.items():
            if key in table.trainer:
                raise ConfigError(f"{source.at((name, 'trainer', key))}: {key} does not belong in {where}; {owner}")
        check_fields(table.trainer, fields, source, (name, "trainer"), where)


_SET_BY_THE_RECIPE = {
    "output_dir": "the recipe's output says where the run goes",
    "seed": "the recipe has a seed for everything",
    "use_cpu": "the recipe's device says where the run goes",
    "temperature": "[sampling] has it, for training and evaluation alike",
    "dataset_kwargs": "the traces are tokenised already",
    "max_length": "segments are trained whole",
}


def _at_least(table: Any, low: float, *names: str) -> None:
    for name in names:
        if not getattr(table, name) >= low:
            raise ValueError(f"{name} must be at least {low}, found {getattr(table, name)}")


def _distinct(what: str, names: list[str], taken: set[str]) -> None:
    """Names become folders, so those must differ."""
    folders = [slug(name) for name in names]
    if "" in folders or len({*folders, *map(slug, taken)}) < len(folders) + len(taken):
        besides = f", other than {', '.join(sorted(taken))}" if taken else ""
        raise ValueError(f"{what} need names that differ in letters or digits{besides}; found {names}")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value


__all__ = ["AblationTable", "ConfigError", "EvalTable", "Recipe", "ablated", "load_recipe"]
