"""How long the stages of a plan take: their tokens, at the pace of the store's finished stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import Literal, NamedTuple, TypeVar

from caft.errors import UserError
from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.pipeline.teaching import ask_each
from caft.pipeline.workspace import Workspace
from caft.records import Question, Rationale
from caft.score.stage import CotInputs, SampleInputs, ScoreInputs
from caft.store import Artifact, StageKind, Store
from caft.tune.config import StageConfig
from caft.tune.examples import choose_pairs
from caft.tune.stage import TuneInputs, encode_rows

Pass = Literal["read", "trained", "written"]


class Rate(NamedTuple):
    """Seconds that a stage takes to be set up, and seconds for each of its tokens."""

    setup: float
    token: float


Rates = Mapping[tuple[object, ...], Rate]
"""By what `Load.pace` names."""

_SAMPLE = 32
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Load:
    """The tokens of a stage that has yet to run; with `at_most` it may be fewer.

    `model` is the one that it runs on, `how` what else its pace depends on, `longest` its longest
    row in tokens, as far as a few of them tell.
    """

    passes: Pass
    tokens: float
    model: Student
    how: object = None
    at_most: bool = False
    longest: int = 0

    @property
    def pace(self) -> tuple[object, ...]:
        """What stages of the same pace share."""
        return self.passes, self.model.fingerprint, self.model.dtype, self.how


def load_of(
    stage: ScoreInputs | ReplyInputs | CotInputs | SampleInputs | None,
    replies: int = 0,
    most: int = 0,
) -> Load | None:
    """That of any stage of questions: scored, or answered by so many replies of so many tokens."""
    if isinstance(stage, ScoreInputs):
        return _load_of_scoring(stage)
    if stage is None:
        return None
    return Load("written", float(replies * most), stage.student, at_most=True)


def _load_of_scoring(stage: ScoreInputs) -> Load:
    """One forward pass a question; free-text answers are written, too."""
    some = replace(stage, questions=take_some(stage.questions))
    if some.free_rows:
        share = len(some.free_rows) / len(some.rows)
        most = stage.config.free_answer_tokens * len(stage.questions) * share
        return Load("written", most, stage.student, at_most=True)
    lengths = [len(row.prompt_ids) for row in some.rows]
    return Load("read", _mean(lengths) * len(stage.questions), stage.student)


def load_of_tuning(
    workspace: Workspace, base: Student | None, stage: StageConfig, rows: int
) -> Load | None:
    """`rows` an epoch, as long as those of a few questions that stand for the classes.

    None where a class's texts are not known without a payment, or cannot be trained, and without
    the `base` model.
    """
    if base is None:
        return None
    config, names = workspace.config, list(stage.targets)
    some = take_some(workspace.questions.train)
    placed = {each.id: names[number % len(names)] for number, each in enumerate(some)}
    try:
        tuning = TuneInputs(
            student=base,
            pairs=choose_pairs(some, placed, _read_texts(workspace, stage, some), stage),
            epochs=stage.epochs,
            prompt=config.dataset.prompt,
            config=config.tuning,
            seed=config.seed,
            trainer=config.trainer,
        )
        rows_of_some = encode_rows(tuning).examples
    except UserError:
        return None
    lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows_of_some]
    how = config.tuning.adapter.value
    tokens = _mean(lengths) * rows * stage.epochs
    return Load("trained", tokens, base, how, longest=max(lengths, default=0))


def _read_texts(
    workspace: Workspace, stage: StageConfig, some: Sequence[Question]
) -> Sequence[Rationale]:
    """The texts that reading costs nothing; UserError if the teacher has none."""
    reasons = {target for shares in stage.shares.values() for target in shares if target.reasons}
    if reasons and workspace.config.teacher.kind not in ("worked", "file"):
        raise UserError("the teacher's texts are not known yet")
    return ask_each(workspace, [(target, some) for target in reasons if target.taught])


def take_some(items: Sequence[_Item]) -> list[_Item]:
    """A few, evenly chosen: their mean length stands for all."""
    count = min(_SAMPLE, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def measure_rates(store: Store) -> Rates:
    """The pace of the store's finished stages."""
    by_pace: dict[tuple[object, ...], list[tuple[int, float]]] = defaultdict(list)
    for artifact in store.artifacts():
        measured = _read_pace(artifact)
        if measured:
            pace, tokens = measured
            by_pace[pace].append((tokens, artifact.seconds))
    return {pace: fit_rate(found) for pace, found in by_pace.items()}


def _read_pace(artifact: Artifact) -> tuple[tuple[object, ...], int] | None:
    student, tokens, how = artifact.key.get("student"), artifact.tokens, None
    if not isinstance(student, dict) or not artifact.seconds or artifact.key.get("engine"):
        return None
    counts: dict[Pass, int] = {
        "trained": tokens.trained, "written": tokens.written, "read": tokens.read,
    }  # fmt: skip
    passes = next((each for each, count in counts.items() if count), None)
    if passes is None:
        return None
    if artifact.stage == StageKind.tune.value:
        config = artifact.key.get("config")
        how = config.get("adapter") if isinstance(config, dict) else None
    return (passes, student.get("model"), student.get("dtype"), how), counts[passes]


def fit_rate(measured: Sequence[tuple[int, float]]) -> Rate:
    """The line through (tokens, seconds) of finished stages, by Theil and Sen.

    Medians, so that stages which ran beside other work do not bend it. Through the origin where all
    stages are of one size, or where the line would have a stage of no tokens take less than no
    time.
    """
    some = take_some(sorted(measured))
    slopes = [
        (later - earlier) / (more - fewer)
        for (fewer, earlier), (more, later) in combinations(some, 2)
        if more > fewer
    ]
    token = median(slopes) if slopes else 0.0
    setup = median(seconds - token * tokens for tokens, seconds in some)
    if token > 0 and setup >= 0:
        return Rate(setup, token)
    return Rate(0.0, median(seconds / tokens for tokens, seconds in some))


def seconds_of(load: Load | None, rates: Rates) -> float | None:
    """None where no finished stage has told."""
    rate = rates.get(load.pace) if load else None
    return rate.setup + load.tokens * rate.token if load and rate else None


def _mean(lengths: Sequence[int]) -> float:
    return sum(lengths) / max(1, len(lengths))
