"""Runs a recipe: its stages in order, each done once, whatever interrupts the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from ..agents.agent import Agent, ModelAgent, ScriptedAgent
from ..agents.context_window import ContextWindow
from ..agents.engine import SamplingParams
from ..agents.env_spec import EnvSpec
from ..agents.evaluation import ReportCard, evaluate
from ..agents.interventions import INTERVENTIONS
from ..agents.local_model import choose_device, format_for, load_model_agent, model_agent
from ..agents.tokenizers import WordTokenizer
from ..envs import background_loop
from ..envs.tasks import JsonLinesTasks, TaskSet
from ..envs.tool_env import ToolEnv
from .extras import MissingExtra, import_extra
from .names import ORACLE_RUN, START_RUN, slug
from .progress import Progress
from .recipe import EvalTable, GRPOTable, Recipe, SFTTable, TracesTable, ablated
from .run_folder import ChildFailed, RunFolder, finished_episodes
from .scripts import load_script
from .toml_tables import ConfigError


class Pipeline:
    """The stages of one recipe.

    Args:
        recipe: The recipe.
        progress: Where progress is shown.
    """

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self._recipe = recipe
        self._progress = progress
        self._folder = RunFolder(recipe)
        self._only_check = False
        self._show_done_before = True

    def check(self) -> list[str]:
        """Find the mistakes that a run would come upon late; returns what could not be checked.

        Raises:
            ConfigError: a script or trainer option is wrong, or the folder holds the run of another recipe.
            EnvSpecError: an environment cannot be made.
        """
        recipe = self._recipe
        ablations = [ablated(recipe, ablation) for ablation in recipe.ablations]
        for script in (recipe.traces and recipe.traces.script, recipe.oracle):
            if script:
                load_script(script)
        specs = [
            r.env.spec(**kwargs) for r in (recipe, *ablations) for kwargs in ({}, *(e.kwargs for e in recipe.eval))
        ]
        distinct: list[EnvSpec] = []
        for spec in specs:
            if spec not in distinct:
                distinct.append(spec)
                env = spec.make()
                if recipe.model.architecture is not None:
                    _vocabulary(env)
                env.close()
        self._walk_without_work()
        if recipe.sft is None and recipe.grpo is None:
            return []
        try:
            import_extra("trl", "train")
        except MissingExtra as error:
            return [f"the options of the trainers were not checked: {error}"]
        from .stages.reinforcement import grpo_config
        from .stages.supervised import sft_config

        if recipe.sft is not None:
            sft_config(recipe, recipe.sft, self._folder.path)
        for each in (recipe, *ablations):
            if each.grpo is not None:
                grpo_config(each, each.grpo, self._folder.path)
        return []

    def describe(self) -> list[str]:
        """What would be done, one line a stage."""
        recipe = self._recipe
        lines = [f"run {recipe.name!r} in {recipe.folder}, environment {recipe.env.id}"]
        if recipe.traces is not None:
            lines.append(f"traces   {recipe.traces.episodes} episodes of {recipe.traces.script}")
        if recipe.sft is not None:
            lines.append(f"sft      {recipe.sft.trainer.get('max_steps', 'all')} steps")
        if recipe.filter is not None:
            low, high = recipe.filter.keep
            lines.append(f"filter   {recipe.filter.tasks} tasks x {recipe.filter.attempts}, keep {low} to {high}")
        if recipe.grpo is not None:
            lines.append(f"grpo     {recipe.grpo.trainer.get('max_steps', 'all')} steps: {', '.join(recipe.runs)}")
        lines += [f"eval     {e.name}: {e.tasks} tasks x {e.attempts}" for e in recipe.eval]
        return [*lines, f"report   {recipe.folder / 'report.html'}"] if recipe.eval else lines

    def run(self, only: str | None = None) -> None:
        """Do everything that is not done.

        Args:
            only: Name of the one reinforcement learning run to do; without a report.

        Raises:
            ConfigError, EnvSpecError, ModelError: the recipe is wrong.
            ChildFailed: a run in a process of its own failed.
        """
        recipe = self._recipe
        runs = recipe.runs if only is None else [only]
        if only is not None and only not in recipe.runs:
            raise ConfigError(
                f"there is no run {only!r}; the runs of this recipe are {', '.join(recipe.runs) or 'none'}"
            )
        self._show_done_before = only is None
        self.check()
        if only is None:
            self._folder.save_recipe()
        tasks_key = self._filter(self._start())
        if len(runs) > 1 and recipe.processes > 1:
            self._reinforce_in_processes(runs)
        else:
            for name in runs:
                self._reinforce(name, tasks_key)
        if only is None and recipe.eval:
            self._report()

    def _walk_without_work(self) -> None:
        """Find stages of another recipe before anything is done."""
        self._only_check = True
        try:
            tasks_key = self._filter(self._start())
            for name in self._recipe.runs:
                self._reinforce(name, tasks_key)
        finally:
            self._only_check = False

    def _reinforce(self, name: str, tasks_key: str) -> None:
        """The reinforcement learning of the main run or of one ablation, and its evaluation."""
        ablation = next((a for a in self._recipe.ablations if a.name == name), None)
        recipe = self._recipe if ablation is None else ablated(self._recipe, ablation)
        grpo = recipe.grpo
        assert grpo is not None
        inputs = [
            asdict(grpo),
            asdict(recipe.env),
            asdict(recipe.sampling),
            asdict(recipe.window),
            recipe.seed,
            tasks_key,
        ]
        key = self._stage(f"grpo/{slug(name)}", inputs, lambda folder: self._train(recipe, grpo, name, folder))
        model = self._folder.path / "grpo" / slug(name) / "model"
        self._evaluate(recipe, name, lambda window: self._agent(recipe, model, window), key)

    def _start(self) -> str:
        """The model before reinforcement learning, and its evaluation."""
        recipe = self._recipe
        key = self._stage("start", [asdict(recipe.model), recipe.env.id, recipe.seed], self._build_model)
        if recipe.traces is not None:
            traces = recipe.traces
            key = self._stage(
                "traces",
                [asdict(traces), asdict(recipe.env), asdict(recipe.window), recipe.seed, key],
                lambda folder: self._make_traces(traces, folder),
            )
        if recipe.sft is not None:
            sft = recipe.sft
            key = self._stage("sft", [asdict(sft), recipe.seed, key], lambda folder: self._fine_tune(sft, folder))
        if recipe.oracle is not None:
            script = load_script(recipe.oracle)

            def oracle(window: ContextWindow) -> Agent:
                return ScriptedAgent(script, format_for(self.start_model), window=window)

            self._evaluate(recipe, ORACLE_RUN, oracle, recipe.oracle)
        self._evaluate(recipe, START_RUN, lambda window: self._agent(recipe, self.start_model, window), key)
        return key

    @property
    def start_model(self) -> Path:
        """Folder of the model that reinforcement learning starts from."""
        return self._folder.path / ("start" if self._recipe.sft is None else "sft") / "model"

    def _filter(self, key: str) -> str:
        table = self._recipe.filter
        if table is None:
            return key
        from .stages.difficulty import filter_tasks

        def work(folder: Path) -> None:
            agent = self._agent(self._recipe, self.start_model, self._recipe.window.window())
            try:
                filter_tasks(self._recipe, table, agent, folder, self._progress)
            finally:
                background_loop.run(agent.engine.close())

        return self._stage(
            "filter",
            [asdict(table), asdict(self._recipe.env), asdict(self._recipe.window), self._recipe.seed, key],
            work,
        )

    def _training_tasks(self, recipe: Recipe) -> TaskSet:
        if recipe.filter is not None:
            return JsonLinesTasks(self._folder.path / "filter" / "tasks.jsonl")
        return recipe.env.spec().make().tasks

    def _build_model(self, folder: Path) -> None:
        from .models import build_model, load_model, save_model

        table = self._recipe.model
        if table.path is not None:
            model, tokenizer = load_model(table.path, table.dtype)
        else:
            words = WordTokenizer(_vocabulary(self._recipe.env.spec().make()))
            model, tokenizer = build_model(table, words, self._recipe.seed)
        save_model(model, tokenizer, folder / "model")

    def _make_traces(self, table: TracesTable, folder: Path) -> None:
        from .stages.traces import make_traces

        make_traces(self._recipe, table, format_for(self._folder.path / "start" / "model"), folder, self._progress)

    def _fine_tune(self, table: SFTTable, folder: Path) -> None:
        from .models import load_model
        from .stages.supervised import fine_tune

        model, tokenizer = load_model(self._folder.path / "start" / "model")
        fine_tune(self._recipe, table, model, tokenizer, self._folder.path / "traces", folder, self._progress)

    def _train(self, recipe: Recipe, table: GRPOTable, name: str, folder: Path) -> None:
        from .models import load_model
        from .stages.reinforcement import reinforce

        model: Any
        model, tokenizer = load_model(self.start_model)
        model.to(choose_device(recipe.device))
        options = _agent_options(recipe) | {"window": recipe.window.window()}
        agent = model_agent(model, format_for(self.start_model), **options)
        try:
            tasks = self._training_tasks(recipe)
            reinforce(recipe, table, model, tokenizer, agent, tasks, folder, self._progress, name)
        finally:
            background_loop.run(agent.engine.close())

    def _evaluate(self, recipe: Recipe, run: str, make_agent: Callable[[ContextWindow], Agent], key: str) -> None:
        for table in self._recipe.eval:
            spec = recipe.env.spec(**table.kwargs)

            def work(folder: Path, spec: EnvSpec = spec, table: EvalTable = table) -> None:
                counter = self._progress.counter(f"eval {run}, {table.name}", table.tasks * table.attempts)
                done = count(finished_episodes(folder) + 1)

                async def run_evaluation() -> None:
                    made = make_agent((table.window or recipe.window).window())
                    if table.intervention is not None:
                        made.intervention = INTERVENTIONS[table.intervention]()
                    async with _closing(made) as agent:
                        await evaluate(
                            spec,
                            agent,
                            spec.make().tasks.head(table.tasks),
                            attempts=table.attempts,
                            seed=self._recipe.seed,
                            folder=folder,
                            concurrency=recipe.sampling.slots,
                            oracle=self._oracle_card(table) if run != ORACLE_RUN else None,
                            on_episode=lambda _: counter.show(next(done)),
                        )

                background_loop.run(run_evaluation())

            inputs = [asdict(table), asdict(recipe.env), asdict(recipe.sampling), asdict(recipe.window), key]
            self._stage(f"eval/{slug(table.name)}/{slug(run)}", inputs, work)

    def _oracle_card(self, table: EvalTable) -> ReportCard | None:
        path = self._folder.path / "eval" / slug(table.name) / ORACLE_RUN / "report_card.json"
        return ReportCard.from_dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def _report(self) -> None:
        from .stages.report import write_run_report

        for page in write_run_report(self._recipe, self._folder.path, self._progress):
            self._progress.note(f"report  {page}")

    def _reinforce_in_processes(self, runs: Sequence[str]) -> None:
        """Each run in a process of its own, `processes` at a time; what is already done ends at once."""
        waiting = list(runs)
        running: list[tuple[str, subprocess.Popen[bytes]]] = []
        # Nobody writes to this pipe: a child reads its end when the parent is gone, however that died.
        child_end, parent_end = os.pipe()
        try:
            while waiting or running:
                while waiting and len(running) < self._recipe.processes:
                    name = waiting.pop(0)
                    command = [
                        sys.executable,
                        "-m",
                        "forethought.trainers.cli",
                        "run",
                        str(self._folder.resolved_recipe),
                    ]
                    command += ["--only", name, "--parent", str(child_end)]
                    # Not in our process group: of Ctrl-C one process tells, and it ends the others.
                    running.append((name, subprocess.Popen(command, pass_fds=[child_end], process_group=0)))
                name, process = running[0]
                try:
                    code = process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    running.append(running.pop(0))
                    continue
                running.pop(0)
                if code != 0:
                    raise ChildFailed(name, code)
        finally:
            os.close(parent_end)
            os.close(child_end)
            for _, process in running:
                process.terminate()
            for _, process in running:
                process.wait()

    def _stage(self, name: str, inputs: Any, work: Callable[[Path], None]) -> str:
        if self._only_check:
            return self._folder.check_stage(name, inputs)

        def note(text: str) -> None:
            if self._show_done_before or not text.endswith("done before"):
                self._progress.note(text)

        return self._folder.run_stage(name, inputs, work, note)

    def _agent(self, recipe: Recipe, model: Path, window: ContextWindow) -> ModelAgent:
        return load_model_agent(model, device=recipe.device, window=window, **_agent_options(recipe))


def _agent_options(recipe: Recipe) -> dict[str, Any]:
    table = recipe.sampling
    params = SamplingParams(max_tokens=table.max_turn_tokens, temperature=table.temperature)
    return {"sampling": params, "slots": table.slots, "context_limit": table.context_limit}


def _vocabulary(env: ToolEnv) -> list[str]:
    try:
        return env.vocabulary()
    except ValueError as error:
        raise ConfigError(f"[model]: no model can be built from scratch for this environment: {error}") from None


@asynccontextmanager
async def _closing(agent: Agent) -> AsyncIterator[Agent]:
    """Free what the agent's engine holds in the end."""
    try:
        yield agent
    finally:
        if isinstance(agent, ModelAgent):
            await agent.engine.close()
