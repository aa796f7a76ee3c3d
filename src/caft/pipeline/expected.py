"""How many training rows a dry run expects where the classes are not known yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from caft.pipeline.workspace import Workspace
from caft.records import Target
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.teachers.replies import CHARACTERS_A_TOKEN
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import StageConfig


def expected_share(config: RunConfig, name: str) -> float:
    """The share of training rows in a class: by quantiles, or else an equal one."""
    names = config.split.classes
    quantiles: Sequence[float] | None = getattr(config.split, "quantiles", None)
    if quantiles is None:
        return 1 / len(names)
    bounds = zip(names, pairwise([0.0, *quantiles, 1.0]), strict=True)
    return sum(high - low for each, (low, high) in bounds if each == name)


def expected_trained(config: RunConfig, rows: int, name: str, targets: Collection[Target]) -> float:
    """The share of `rows` that are in a class and that some epoch trains on one of `targets`."""
    share, missed = expected_share(config, name), 1.0
    size = max(1.0, share * rows)
    for stage in config.method.stages:
        if stage.targets.get(name) in targets:
            drawn = min(1.0, stage.draw.get(name, size) / size)
            missed *= (1 - drawn) ** stage.epochs
    return share * (1 - missed)


def expected_rows(workspace: Workspace, split: SplitResult | None, stage: StageConfig) -> int:
    """The rows of an epoch."""
    train, config = workspace.questions.train, workspace.config
    if split is None:
        sizes = {name: expected_share(config, name) * len(train) for name in stage.targets}
    else:
        placed = [split.complexity_of[question.id] for question in train]
        sizes = {name: float(placed.count(name)) for name in stage.targets}
    return round(sum(min(stage.draw.get(name, size), size) for name, size in sizes.items()))


def count_prompt_tokens(workspace: Workspace) -> int:
    """About how many tokens scoring reads; shots are run once, as a shared prefix."""
    config, questions = workspace.config.dataset.prompt, workspace.every_question
    prompts = [write_prompt(question, config, Wanted.answer, chat=True) for question in questions]
    shots = workspace.questions.shots
    prompts.append(write_prompt(questions[0], config, Wanted.answer, chat=True, shots=shots))
    characters = sum(len(turn.content) for prompt in prompts for turn in prompt.messages)
    return characters // CHARACTERS_A_TOKEN
