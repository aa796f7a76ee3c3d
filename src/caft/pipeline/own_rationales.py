"""The student's own chains of thought as training texts: drawn, and kept where they are right."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from caft.distill import Chance, keep_own
from caft.errors import UserError, count_of
from caft.estimators import Need
from caft.models.encoding import special_tokens
from caft.packed import keep, values_of
from caft.pipeline.results import Taught, record_stage
from caft.pipeline.stage_inputs import trained_questions
from caft.pipeline.steps import own_classes, steps_of, wanted_needs
from caft.pipeline.workspace import Workspace
from caft.records import Question, SampledReply, Target
from caft.run_config import Until
from caft.score.config import ModelScoreConfig, ScoreConfig
from caft.score.stage import SampleInputs
from caft.split import SplitResult
from caft.store import StageKind
from caft.teachers.refusals import count_reasons, list_reasons

log = logging.getLogger(__name__)
_DRAWS = StageKind.samples


def own_sampling(workspace: Workspace, questions: Sequence[Question]) -> SampleInputs:
    """The drawn chains of `questions`; those of an estimator, if one draws for all of them."""
    if Need.samples in wanted_needs(workspace.config):
        return workspace.base_samples
    return replace(workspace.base_samples, questions=questions)


def own_questions(workspace: Workspace, split: SplitResult) -> Sequence[Question]:
    """Training questions that any epoch trains on the student's own chain."""
    trained = trained_questions(workspace, split, lambda target: target is Target.own_rationale)
    train = workspace.questions.train
    return keep(train, [name in trained for name in values_of(train, "id")])


def sample_own(workspace: Workspace, taught: Taught) -> Taught:
    """`taught` with the student's own rationales, where the method trains any.

    UserError if a class is left without one.
    """
    questions = own_questions(workspace, taught.split)
    if not questions:
        return taught
    sampling = own_sampling(workspace, questions)
    artifact = workspace.store.obtain(sampling)
    # No step of its own if an estimator drew them before the split.
    steps = [each for each in steps_of(workspace.config, Until.distill) if each.kind is _DRAWS]
    records = [record_stage(step, artifact) for step in steps]
    taught = replace(taught, stages=(*taught.stages, *records))
    taught = add_own(workspace, taught, sampling.read(artifact.folder))
    _tell(taught)
    return taught


def add_own(workspace: Workspace, taught: Taught, tries: Sequence[SampledReply]) -> Taught:
    """`taught` with what is kept of `tries`. UserError if a class is left without a rationale."""
    questions = own_questions(workspace, taught.split)
    asked = {item.id for item in questions}
    tries = [each for each in tries if each.question_id in asked]
    own, chance = keep_own(
        questions,
        tries,
        option_ids=workspace.config.dataset.prompt.option_ids,
        forbidden=special_tokens(workspace.student.tokenizer),
        longest=workspace.scoring.chain.max_new_tokens,
    )
    taught = replace(taught, own=own, tries=tries, chance=chance)
    _refuse_empty_classes(workspace, taught)
    return taught


def _tell(taught: Taught) -> None:
    placed = taught.split.complexity_of
    asked = Counter(placed[row.question_id] for row in taught.own)
    kept = Counter(placed[row.question_id] for row in taught.own if row.accepted)
    left_out = list_reasons(count_reasons(taught.own))
    chance = taught.chance
    assert chance is not None
    log.info(
        "own rationales: %s; %d tries, %d tokens, no teacher call%s; chance makes %.1f%% of tries "
        "right, so a question needs %d of %d right, which chance alone gives to %.1f of %d",
        ", ".join(
            f"{kept[name]} of {count_of(count, f'{name} question')}"
            for name, count in asked.items()
        ),
        len(taught.tries),
        sum(each.generated_tokens for each in taught.tries),
        f"; left out: {left_out}" if left_out else "",
        100 * chance.rate,
        chance.needed,
        chance.tries,
        chance.kept_share * len(taught.own),
        len(taught.own),
    )


def _refuse_empty_classes(workspace: Workspace, taught: Taught) -> None:
    config, placed = workspace.config, taught.split.complexity_of
    for name in own_classes(config.method):
        rows = [row for row in taught.own if placed[row.question_id] == name]
        if rows and not any(row.accepted for row in rows):
            raise UserError(
                f"the method {config.method.name} trains the class {name} on own_rationale, but "
                f"none of the student's {workspace.scoring.samples.count} tries at each of its "
                f"{len(rows)} questions is a right chain of thought that chance does not explain "
                f"({list_reasons(count_reasons(rows))}); {_advise(config.score, taught.chance)}"
            )


def _advise(score: ScoreConfig, chance: Chance | None) -> str:
    # Published scores have no settings of drawn chains.
    more, longer = "raise score.samples.count", "score.chain.max_new_tokens"
    if chance and chance.needed > chance.tries and chance.fewest_tries:
        more += f" to {chance.fewest_tries} or more"
    if not isinstance(score, ModelScoreConfig):
        more, longer = "use score=model and a larger score.samples.count", "dataset.max_new_tokens"
    return (
        f"{more}, show it more shots (dataset.prompt.shots), let it write longer ({longer}) where "
        "it is cut off, or give the class another target"
    )
