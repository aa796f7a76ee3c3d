"""What a dry run expects where the classes are not known yet: training rows, and questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise

from caft.estimators import ESTIMATORS, Need
from caft.packed import values_of
from caft.pipeline.matched_budget import likely_asked
from caft.pipeline.rescoring import most_asked
from caft.pipeline.results import Scored
from caft.pipeline.stage_inputs import Requests, questions_for_teacher
from caft.pipeline.steps import MatchedBudget, asked_targets, find_matched_budget
from caft.pipeline.workspace import Workspace
from caft.records import Question, Target
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.teachers.prices import count_bytes
from caft.teachers.replies import BYTES_A_TOKEN
from caft.text.config import PromptStyle
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import StageConfig
from caft.tune.examples import TrainingPair


def expected_share(config: RunConfig, name: str) -> float:
    """The share of training rows in a class: by quantiles, or else an equal one."""
    names = config.split.classes
    quantiles: Sequence[float] | None = getattr(config.split, "quantiles", None)
    if quantiles is None:
        return 1 / len(names)
    bounds = zip(names, pairwise([0.0, *quantiles, 1.0]), strict=True)
    return sum(high - low for each, (low, high) in bounds if each == name)


def expected_trained(
    config: RunConfig, rows: int, name: str, targets: Collection[Target], numbers: range
) -> float:
    """The share of `rows` that are in a class and that some epoch trains on one of `targets`.

    `numbers` are those of the stages that share their classes.
    """
    share, missed = expected_share(config, name), 1.0
    size = max(1.0, share * rows)
    for stage in (config.method.stages[number] for number in numbers):
        if set(stage.shares.get(name, ())) & set(targets):
            drawn = min(1.0, stage.draw.get(name, size) / size)
            missed *= (1 - drawn) ** stage.epochs
    return share * (1 - missed)


def expected_requests(
    workspace: Workspace, split: SplitResult | None, scored: Scored | None, phase: range
) -> Requests:
    """The questions for the teacher; where the classes are unknown, as many of average length.

    Before a stage that rescores, as many as it can be asked for at most. `phase` has the numbers of
    the stages with this `split`.
    """
    train, config = workspace.questions.train, workspace.config
    targets = asked_targets(config, phase)
    if budget := find_matched_budget(config):
        asked = _expected_matched(workspace, scored, budget, phase)
        return [(budget.target, asked)] if budget.target in targets else []
    if split is not None:
        return questions_for_teacher(workspace, split, targets, phase)
    if phase.start:
        return most_asked(workspace, phase)
    return [
        (target, train[: round(len(train) * sum(_share(workspace, each, phase) for each in names))])
        for target, names in targets.items()
    ]


def _expected_matched(
    workspace: Workspace, scored: Scored | None, budget: MatchedBudget, phase: range
) -> Sequence[Question]:
    train, reference = workspace.questions.train, ESTIMATORS[budget.split.reference]
    if scored is not None and reference.need is Need.single_token:
        return likely_asked(workspace, scored, budget)
    # Two draws of a share: some questions are in both.
    share = 1 - (1 - _share(workspace, budget.taught, phase)) ** 2
    return train[: round(share * len(train))]


def _share(workspace: Workspace, name: str, phase: range) -> float:
    taught = [target for target in Target if target.taught]
    count = len(workspace.questions.train)
    return expected_trained(workspace.config, count, name, taught, phase)


def count_rows(stage: StageConfig, pairs: Sequence[TrainingPair]) -> int:
    """The rows of an epoch, where all pairs are known: a question is drawn with all of its own."""
    shares, placed = stage.shares, Counter(pair.complexity for pair in pairs)
    return sum(
        min(stage.draw.get(name, size) * len(shares[name]), size) for name, size in placed.items()
    )


def expected_rows(workspace: Workspace, split: SplitResult | None, stage: StageConfig) -> int:
    """The rows of an epoch."""
    train, config = workspace.questions.train, workspace.config
    if split is None:
        sizes = {name: expected_share(config, name) * len(train) for name in stage.targets}
    else:
        counts = split.count(values_of(train, "id"))
        sizes = {name: float(counts[name]) for name in stage.targets}
    return round(
        sum(
            len(stage.shares[name]) * min(stage.draw.get(name, size), size)
            for name, size in sizes.items()
        )
    )


def count_prompt_tokens(workspace: Workspace) -> int:
    """About how many tokens scoring reads; shots are run once, as a shared prefix."""
    config, questions = workspace.config.dataset.prompt, workspace.every_question
    write = partial(
        write_prompt,
        config=config,
        wanted=Wanted.answer,
        chat=config.style is not PromptStyle.completion,
    )
    prompts = [write(question) for question in questions]
    prompts.append(write(questions[0], shots=workspace.questions.shots))
    texts = (text for each in prompts for text in (each.text, *(turn for _, turn in each.turns)))
    return sum(map(count_bytes, texts)) // BYTES_A_TOKEN
