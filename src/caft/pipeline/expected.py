"""How many training rows a dry run expects where the classes are not known yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from caft.pipeline.workspace import Workspace
from caft.records import Target
from caft.run_config import RunConfig
from caft.split import SplitResult
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


def expected_trained(config: RunConfig, rows: int, name: str, targets: Collection[Target]) -> float:
    """The share of `rows` that are in a class and that some epoch trains on one of `targets`."""
    share, missed = expected_share(config, name), 1.0
    size = max(1.0, share * rows)
    for stage in config.method.stages:
        if set(stage.shares.get(name, ())) & set(targets):
            drawn = min(1.0, stage.draw.get(name, size) / size)
            missed *= (1 - drawn) ** stage.epochs
    return share * (1 - missed)


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
        placed = [split.complexity_of[question.id] for question in train]
        sizes = {name: float(placed.count(name)) for name in stage.targets}
    return round(
        sum(
            len(stage.shares[name]) * min(stage.draw.get(name, size), size)
            for name, size in sizes.items()
        )
    )
