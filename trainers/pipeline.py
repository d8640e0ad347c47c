"""Runs a recipe: its stages in order, each done once, whatever interrupts the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from ..agents.agent import Agent, ScriptedAgent
from ..agents.engine import SamplingParams
from ..agents.evaluation import ReportCard, evaluate
from ..agents.local_model import format_for, load_model_agent, model_agent
from ..agents.tokenizers import WordTokenizer
from ..envs import background_loop
from ..envs.tasks import JsonLinesTasks, TaskSet
from .names import MAIN_RUN, ORACLE_RUN, START_RUN, slug
from .progress import Progress
from .recipe import AblationTable, EvalTable, GRPOTable, Recipe, ablated
from .run_folder import ChildFailed, RunFolder
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
            names = [MAIN_RUN, *(ablation.name for ablation in recipe.ablations)]
            lines.append(f"grpo     {recipe.grpo.trainer.get('max_steps', 'all')} steps: {', '.join(names)}")
        lines += [f"eval     {e.name}: {e.tasks} tasks x {e.attempts}" for e in recipe.eval]
        return [*lines, "report   report.html"]

    def run(self) -> None:
        """Do everything that is not done."""
        self._folder.save_recipe()
        key = self._start()
        tasks_key = self._filter(key)
        runs = [None, *self._recipe.ablations] if self._recipe.grpo is not None else []
        if len(runs) > 1 and self._recipe.processes > 1:
            self._reinforce_in_processes(runs)
        for ablation in runs:
            self.reinforce(ablation, tasks_key)
        self._report()

    def reinforce(self, ablation: AblationTable | None, tasks_key: str | None = None) -> None:
        """The reinforcement learning of the main run or of one ablation, and its evaluation."""
        recipe = self._recipe if ablation is None else ablated(self._recipe, ablation)
        name = MAIN_RUN if ablation is None else ablation.name
        tasks_key = tasks_key or self._filter(self._start())
        grpo = recipe.grpo
        if grpo is None:
            raise ConfigError(f"{name}: there is no [grpo] in the recipe")
        inputs = [asdict(grpo), asdict(recipe.env), asdict(recipe.sampling), recipe.seed, tasks_key]
        key = self._stage(f"grpo/{slug(name)}", inputs, lambda folder: self._train(recipe, grpo, name, folder))
        model = self._folder.path / "grpo" / slug(name) / "model"
        self._evaluate(name, lambda: self._agent(model), key)

    def _start(self) -> str:
        """The model before reinforcement learning, and its evaluation."""
        recipe = self._recipe
        key = self._stage("start", [asdict(recipe.model), recipe.env.id, recipe.seed], self._build_model)
        if recipe.traces is not None:
            traces = recipe.traces
            key = self._stage(
                "traces",
                [asdict(traces), asdict(recipe.env), recipe.seed, key],
                lambda folder: self._make_traces(traces, folder),
            )
        if recipe.sft is not None:
            sft = recipe.sft
            key = self._stage("sft", [asdict(sft), recipe.seed, key], lambda folder: self._fine_tune(sft, folder))
        if recipe.oracle is not None:
            script = load_script(recipe.oracle)
            self._evaluate(ORACLE_RUN, lambda: ScriptedAgent(script, format_for(self.start_model)), recipe.oracle)
        self._evaluate(START_RUN, lambda: self._agent(self.start_model), key)
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
            filter_tasks(self._recipe, table, self._agent(self.start_model), folder, self._progress)

        return self._stage("filter", [asdict(table), asdict(self._recipe.env), self._recipe.seed, key], work)

    def _training_tasks(self) -> TaskSet:
        if self._recipe.filter is not None:
            return JsonLinesTasks(self._folder.path / "filter" / "tasks.jsonl")
        return self._recipe.env.spec().make().tasks

    def _build_model(self, folder: Path) -> None:
        from .models import build_model, load_model, save_model

        table = self._recipe.model
        if table.path is not None:
            model, tokenizer = load_model(table.path)
        else:
            words = WordTokenizer(self._recipe.env.spec().make().vocabulary())
            model, tokenizer = build_model(table, words, self._recipe.seed)
        save_model(model, tokenizer, folder / "model")

    def _make_traces(self, table: Any, folder: Path) -> None:
        from .stages.traces import make_traces

        make_traces(self._recipe, table, format_for(self._folder.path / "start" / "model"), folder, self._progress)

    def _fine_tune(self, table: Any, folder: Path) -> None:
        from .models import load_model
        from .stages.supervised import fine_tune

        model, tokenizer = load_model(self._folder.path / "start" / "model")
        fine_tune(self._recipe, table, model, tokenizer, self._folder.path / "traces", folder, self._progress)

    def _train(self, recipe: Recipe, table: GRPOTable, name: str, folder: Path) -> None:
        from .models import load_model
        from .stages.reinforcement import reinforce

        model: Any
        model, tokenizer = load_model(self.start_model)
        model.to(self._device())
        agent = model_agent(model, format_for(self.start_model), **self._agent_options())
        reinforce(recipe, table, model, tokenizer, agent, self._training_tasks(), folder, self._progress, name)

    def _evaluate(self, run: str, make_agent: Callable[[], Agent], key: str) -> None:
        for table in self._recipe.eval:
            spec = self._recipe.env.spec(**table.kwargs)

            def work(folder: Path, spec: Any = spec, table: Any = table) -> None:
                counter = self._progress.counter(f"eval {run}, {table.name}", table.tasks * table.attempts)
                done = count(1)
                background_loop.run(
                    evaluate(
                        spec,
                        make_agent(),
                        spec.make().tasks.head(table.tasks),
                        attempts=table.attempts,
                        seed=self._recipe.seed,
                        folder=folder,
                        concurrency=self._recipe.sampling.slots,
                        oracle=self._oracle_card(table) if run != ORACLE_RUN else None,
                        on_episode=lambda _: counter.show(next(done)),
                    )
                )

            inputs = [asdict(table), asdict(self._recipe.env), asdict(self._recipe.sampling), key]
            self._stage(f"eval/{slug(table.name)}/{slug(run)}", inputs, work)

    def _oracle_card(self, table: EvalTable) -> ReportCard | None:
        path = self._folder.path / "eval" / slug(table.name) / ORACLE_RUN / "report_card.json"
        return ReportCard.from_dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def _report(self) -> None:
        from .stages.report import write_run_report

        for page in write_run_report(self._recipe, self._folder.path, self._progress):
            self._progress.note(f"report  {page}")

    def _reinforce_in_processes(self, runs: Sequence[AblationTable | None]) -> None:
        """Each run in a process of its own, `processes` at a time; what is already done ends at once."""
        waiting = [MAIN_RUN if ablation is None else ablation.name for ablation in runs]
        recipe_file = str(self._folder.path / "recipe.resolved.toml")
        running: list[tuple[str, subprocess.Popen[bytes]]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self._recipe.processes:
                    name = waiting.pop(0)
                    command = [sys.executable, "-m", "forethought.trainers.cli", "run", recipe_file, "--only", name]
                    running.append((name, subprocess.Popen(command, env=os.environ)))
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
            for _, process in running:
                process.terminate()
            for _, process in running:
                process.wait()

    def _stage(self, name: str, inputs: Any, work: Any) -> str:
        return self._folder.run_stage(name, inputs, work, self._progress.note)

    def _agent(self, model: Path) -> Agent:
        return load_model_agent(model, device=self._device(), **self._agent_options())

    def _agent_options(self) -> dict[str, Any]:
        table = self._recipe.sampling
        params = SamplingParams(max_tokens=table.max_turn_tokens, temperature=table.temperature)
        return {"sampling": params, "slots": table.slots, "context_limit": table.context_limit}

    def _device(self) -> str:
        if self._recipe.device != "auto":
            return self._recipe.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
