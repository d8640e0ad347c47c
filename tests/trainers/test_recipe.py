from __future__ import annotations

from pathlib import Path

import pytest

from forethought.trainers.recipe import ConfigError, ablated, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_examples_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.folder == Path("runs") / path.stem
    for ablation in recipe.ablations:
        assert ablated(recipe, ablation) != recipe


def test_overrides_reach_every_table(tiny_recipe: Path) -> None:
    overrides = ["seed=3", "grpo.length_penalty.weight=0", "eval.0.tasks=7", "env.kwargs.mode=think", "output=/tmp/x"]
    recipe = load_recipe(tiny_recipe, [*overrides, "grpo.trainer.max_steps=1"])
    assert recipe.seed == 3 and recipe.eval[0].tasks == 7 and recipe.folder == Path("/tmp/x")
    assert recipe.grpo is not None and recipe.grpo.length_penalty is not None
    assert recipe.grpo.length_penalty.weight == 0.0 and recipe.grpo.trainer["max_steps"] == 1
    assert recipe.env.spec(split="test").kwargs["mode"] == "think"


def test_the_resolved_tables_are_the_recipe(tiny_recipe: Path, tmp_path: Path) -> None:
    tomli_w = pytest.importorskip("tomli_w")
    recipe = load_recipe(tiny_recipe)
    path = tmp_path / "resolved.toml"
    path.write_text(tomli_w.dumps(recipe.to_tables()), "utf-8")
    assert load_recipe(path) == recipe


def _edited(recipe: Path, old: str, new: str) -> tuple[Path, int]:
    """The recipe with its only `old` replaced, and the line of it."""
    text = recipe.read_text("utf-8")
    assert text.count(old) == 1
    recipe.write_text(text.replace(old, new), "utf-8")
    return recipe, text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slots = 32", "slot = 32", "unknown key 'slot' in [sampling]; did you mean 'slots'?"),
        ("slots = 32", 'slots = "32"', "sampling.slots must be an integer, found '32'"),
        ("attempts = 2", "attempts = 2.5", "filter.attempts must be an integer, found 2.5"),
        ("keep = [0.0, 1.0]", "keep = [0.5]", "filter.keep must be a list of 2 values"),
        ('device = "cpu"', 'device = "gpu"', "device must be one of 'auto', 'cpu', 'cuda'"),
        ('set = ["grpo', 'sets = ["grpo', "unknown key 'sets' in [ablations.0]; did you mean 'set'?"),
        ('metric = "accuracy"', "metric = 3", "targets.0.metric must be a string"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_line(old: str, new: str, message: str, tiny_recipe: Path) -> None:
    path, line = _edited(tiny_recipe, old, new)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}, line {line}: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('script = "forethought.envs.pointer.scripts:oracle"\n', "", "[traces] needs a value for 'script'"),
        ('architecture = "gpt2"', 'architecture = "gpt2"\npath = "x"', "give either 'path'"),
        ("episodes = 256", "episodes = 0", "episodes must be at least 1, found 0"),
        ("slots = 32", "slots = 0", "slots must be at least 1"),
        ("max_tokens = 12", "max_tokens = 0", "max_tokens must be at least 1"),
        ("keep = [0.0, 1.0]", "keep = [0.9, 0.1]", "keep must be [smallest, largest]"),
        ('name = "no penalty"', 'name = "rl"', "ablations need names that differ"),
        ('name = "no penalty"', 'name = "Oracle"', "ablations need names that differ"),
        ('metric = "accuracy"', 'metric = "acuracy"', "a report card has no 'acuracy'"),
        ('metric = "accuracy"', 'metric = "calibration.slop"', "a report card has no 'calibration.slop'"),
        ('eval = "held-out"', 'eval = "heldout"', "names an [[eval]] 'heldout' that is not there"),
        ('eval = "held-out"', 'eval = "held-out"\nrun = "RLL"', "the runs are SFT, RL, no penalty"),
        ("min = 0.99", "", "needs 'min' or 'max'"),
        ("weight=0", "wieght=0", "ablation 'no penalty': override 'grpo.length_penalty.wieght=0': unknown key"),
        ("grpo.length_penalty.weight=0", "sft.trainer.max_steps=1", "it can change env, sampling, window, seed, grpo"),
        ("grpo.length_penalty.weight=0", "nothing", "expected name=value"),
    ],
)
def test_what_does_not_fit_together(old: str, new: str, message: str, tiny_recipe: Path) -> None:
    path, _ = _edited(tiny_recipe, old, new)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_sft_needs_traces(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text("utf-8")
    start, end = text.index("[traces]"), text.index("[sft.trainer]")
    tiny_recipe.write_text(text[:start] + text[end:], "utf-8")
    with pytest.raises(ConfigError, match=r"\[sft\] needs \[traces\]"):
        load_recipe(tiny_recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.trainer.max_step=3", "unknown key 'max_step' in [sft.trainer] (SFTConfig); did you mean 'max_steps'?"),
        ("sft.trainer.max_steps=ten", "sft.trainer.max_steps must be an integer, found 'ten'"),
        ("grpo.trainer.loss_denominater=token", "did you mean 'loss_denominator'?"),
        ("grpo.trainer.token_budget=1.5", "grpo.trainer.token_budget must be an integer, found 1.5"),
        ("grpo.trainer.temperature=2", "temperature does not belong in [grpo.trainer]"),
        ("sft.trainer.output_dir=x", "output_dir does not belong in [sft.trainer]"),
    ],
)
def test_options_of_the_trainers_are_checked(override: str, message: str, tiny_recipe: Path) -> None:
    pytest.importorskip("trl", reason="needs TRL: pip install forethought[train]")
    with pytest.raises(ConfigError) as error:
        load_recipe(tiny_recipe, [override])
    assert str(error.value).startswith(f"override {override!r}: ") and message in str(error.value)


def test_options_of_the_trainers_in_ablations_are_checked(tiny_recipe: Path) -> None:
    pytest.importorskip("trl", reason="needs TRL: pip install forethought[train]")
    path, line = _edited(tiny_recipe, "grpo.length_penalty.weight=0", "grpo.trainer.max_step=1")
    with pytest.raises(ConfigError, match=r"ablation 'no penalty': .*unknown key 'max_step'") as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")


def test_trackers_pass_through(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["sft.trainer.report_to=tensorboard", 'grpo.trainer.report_to=["wandb"]'])
    assert recipe.sft is not None and recipe.sft.trainer["report_to"] == "tensorboard"
    assert recipe.grpo is not None and recipe.grpo.trainer["report_to"] == ["wandb"]
