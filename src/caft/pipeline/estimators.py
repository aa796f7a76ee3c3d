"""Gathers what estimators need in addition to the one forward pass, cheapest first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.estimators import ESTIMATORS, Need
from caft.packed import values_of
from caft.pipeline.entropy_gain import (
    entropy_gains,
    file_of,
    find_option_teacher,
    option_prompts,
    read_teacher_file,
)
from caft.pipeline.results import Scored, obtain, record_stage
from caft.pipeline.steps import (
    Step,
    judged_estimators,
    steps_of,
    wanted_estimators,
    wanted_needs,
)
from caft.pipeline.teaching import Bought, buy_rationales, watch_asking
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Judgement, Question, Rationale, Target
from caft.report.schema import StageRecordPart
from caft.run_config import RunConfig, Until
from caft.score.chains import estimate_chain
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.options import OPTION_GAIN, ask_options
from caft.score.samples import estimate_samples
from caft.score.stage import ScoreInputs, ask_judge
from caft.store import StageKind, measured
from caft.teachers.config import EndpointConfig, OpenAITeacherConfig
from caft.text.follow_up import read_follow_up

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Values = Mapping[str, float | None]
"""One estimate by question id."""


def check_estimators(config: RunConfig, questions: Sequence[Question]) -> None:
    """UserError, before any model loads, if a requested estimator is not available."""
    for name in wanted_estimators(config):
        if isinstance(config.score, PublishedScoreConfig) and name != "answer_entropy":
            raise UserError(
                f"split.estimator is {name}, but score=published has answer_entropy only; "
                "use score=model, or split.estimator=answer_entropy"
            )
        _refuse_without_values(name, questions)


def _refuse_without_values(name: str, questions: Sequence[Question]) -> None:
    """Some estimates exist for free text only, some for listed or closed answers only."""
    golds = values_of(questions, "gold_index")
    free = [place for place, gold in enumerate(golds) if gold is None]
    if ESTIMATORS[name].free_text and len(free) < len(questions):
        raise UserError(
            f"the estimator {name} is for free-text answers, and these questions have one-token "
            "answers; use answer_entropy, which is the same here"
        )
    chosen = ("option_entropy", "option_mass", "gold_cross_entropy", "option_entropy_gain")
    chooses = name in chosen
    # Declining is one more answer to choose from; in free text 0 is an answer like any other.
    if (chooses or ESTIMATORS[name].need is Need.fallback) and free:
        raise UserError(
            f"the estimator {name} needs questions with options, or a closed set of answers, and "
            f"question {questions[free[0]].id} is free text; use answer_entropy or "
            "answer_mean_entropy"
        )


def find_judge(config: RunConfig) -> EndpointConfig:
    """The endpoint that judges: score.judge, or the teacher's if score.judge names no model."""
    score = config.score
    if isinstance(score, ModelScoreConfig) and (score.judge.model or score.judge.base_url):
        return score.judge
    if isinstance(config.teacher, OpenAITeacherConfig):
        # A judge is asked once, and nothing of its replies is refused.
        return replace(config.teacher, attempts=1, probe_replies=0)
    raise UserError(
        "the estimators judge_* need a model as judge; give score.judge.base_url= and "
        "score.judge.model=, or a teacher with an endpoint, such as teacher=openai"
    )


def gather_estimates(workspace: Workspace) -> Scored:
    """The base model's scores, with everything else that the requested estimators need."""
    scored = Scored(scores=())
    for step in steps_of(workspace.config, Until.score):
        scored = _GATHERERS[step.kind](workspace, scored, step)
    return scored


def _gather_scores(workspace: Workspace, _scored: Scored, step: Step) -> Scored:
    scores, artifact = obtain(workspace.store, step, workspace.base_scoring)
    scored, more = Scored(scores=scores, stages=(record_stage(step, artifact),)), {}
    needs = wanted_needs(workspace.config)
    if Need.hidden in needs:
        hidden = ScoreInputs.read_hidden(artifact.folder)
        more["probe"] = estimate_by_probe(workspace, scores, hidden)
    if Need.teacher in needs and file_of(workspace.config):
        train = scored.of(workspace.questions.train)
        more["entropy_gain"] = entropy_gains(train, read_teacher_file(workspace))
    return _with_estimates(scored, more)


def estimate_by_probe(
    workspace: Workspace, scores: Sequence[AnswerScore], hidden: NDArray[np.float16]
) -> Values:
    """The probability of a mistake: out of fold for training questions, which come first."""
    from caft.statistics.probe import FEWEST_OF_A_KIND, cross_fit

    train = len(workspace.questions.train)
    wrong = [not score.correct for score in scores[:train]]
    fewest = min(wrong.count(True), wrong.count(False))
    if fewest < FEWEST_OF_A_KIND:
        log.warning(
            "no probe: of %d training questions %d are answered right and %d wrong, and it needs "
            "%d of either kind",
            train,
            wrong.count(False),
            wrong.count(True),
            FEWEST_OF_A_KIND,
        )
        return {}
    inside, outside = cross_fit(hidden[:train], wrong, hidden[train:])
    values = [*inside.tolist(), *outside.tolist()]
    return dict(zip((score.question_id for score in scores), values, strict=True))


def _gather_fallback(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    rows, artifact = obtain(workspace.store, step, workspace.fallback_scoring)
    estimates: dict[str, Values] = {
        "fallback_entropy": {row.question_id: row.estimates["answer_entropy"] for row in rows},
        # Declining is the last of the allowed replies.
        "fallback_declines": {row.question_id: row.option_probabilities[-1] for row in rows},
    }
    return replace(_add(scored, estimates, record_stage(step, artifact)), fallback=rows)


def _gather_follow_up(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    name, asked = step.kind.name, workspace.follow_up(step.kind, scored.answers)
    rows, artifact = obtain(workspace.store, step, asked)
    values = {row.question_id: read_follow_up(name, row.option_probabilities) for row in rows}
    added = _add(scored, {name: values}, record_stage(step, artifact))
    return replace(added, follow_ups={**scored.follow_ups, name: rows})


def _gather_teacher(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    rows, artifact = obtain(workspace.store, step, workspace.teacher_scoring)
    teacher = {row.question_id: row.estimates["answer_entropy"] or 0.0 for row in rows}
    gains = entropy_gains(scored.scores, teacher)
    return _add(scored, {"entropy_gain": gains}, record_stage(step, artifact))


def _gather_teacher_options(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    config, train = workspace.config, workspace.questions.train
    with measured() as effort, watch_asking(config.trainer.progress) as bar:
        rows = ask_options(
            train,
            [*option_prompts(workspace)],
            option_ids=config.dataset.prompt.option_ids,
            teacher=find_option_teacher(config),
            ledger_path=workspace.store.ledger_path,
            progress=bar.show,
        )
    table = Bought(StageKind.teacher_options, "judgements", Judgement, rows)
    record = record_stage(step, workspace.store.obtain(table), effort)
    teacher = {row.question_id: row.value for row in rows if row.value is not None}
    gains = entropy_gains(scored.scores, teacher, of="option_entropy")
    added = _add(scored, {OPTION_GAIN: gains}, record)
    return replace(added, judgements=(*scored.judgements, *rows))


def _gather_chains(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    chains, artifact = obtain(workspace.store, step, workspace.base_chains)
    by_question = {chain.question_id: estimate_chain(chain) for chain in chains}
    names = next(iter(by_question.values()))
    estimates = {name: {key: values[name] for key, values in by_question.items()} for name in names}
    return replace(_add(scored, estimates, record_stage(step, artifact)), chains=chains)


def _gather_samples(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    samples, artifact = obtain(workspace.store, step, workspace.base_samples)
    added = _add(
        scored, estimate_samples(samples, workspace.sampled_questions), record_stage(step, artifact)
    )
    return replace(added, samples=samples)


def _gather_rationales(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    asked = [(Target.rationale, workspace.questions.train)]
    rationales, record = buy_rationales(workspace, asked, step)
    estimates = {"rationale_length": _measure_lengths(workspace, rationales)}
    return replace(_add(scored, estimates, record), rationales=rationales)


def _gather_judgements(workspace: Workspace, scored: Scored, step: Step) -> Scored:
    config = workspace.config
    names = judged_estimators(config)
    with measured() as effort, watch_asking(config.trainer.progress, "judge") as bar:
        judgements = ask_judge(
            workspace.every_question,
            names,
            prompt=config.dataset.prompt,
            judge=find_judge(config),
            ledger_path=workspace.store.ledger_path,
            progress=bar.show,
        )
    table = Bought(StageKind.judge, "judgements", Judgement, judgements)
    record = record_stage(step, workspace.store.obtain(table), effort)
    estimates = {
        name: {row.question_id: row.value for row in judgements if row.estimator == name}
        for name in names
    }
    return replace(_add(scored, estimates, record), judgements=(*scored.judgements, *judgements))


def _measure_lengths(workspace: Workspace, rationales: Sequence[Rationale]) -> Values:
    """The student's tokens in each question's last reply, accepted or refused.

    A missing reply has no length.
    """
    tokenizer = workspace.student.tokenizer
    texts = {row.question_id: row.text for row in rationales}
    return {
        key: float(len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)) or None
        for key, text in texts.items()
    }


def _add(scored: Scored, estimates: Mapping[str, Values], record: StageRecordPart) -> Scored:
    """`scored` with one more stage, and what it estimated."""
    added = _with_estimates(scored, estimates)
    return replace(added, stages=(*scored.stages, record))


def _with_estimates(scored: Scored, estimates: Mapping[str, Values]) -> Scored:
    scores = []
    for row in scored.scores:
        more = {name: values.get(row.question_id) for name, values in estimates.items()}
        scores.append(replace(row, estimates={**row.estimates, **more}))
    return replace(scored, scores=scores)


_GATHERERS: dict[StageKind, Callable[[Workspace, Scored, Step], Scored]] = {
    StageKind.score: _gather_scores,
    StageKind.fallback: _gather_fallback,
    StageKind.p_true: _gather_follow_up,
    StageKind.verbalized: _gather_follow_up,
    StageKind.teacher: _gather_teacher,
    StageKind.teacher_options: _gather_teacher_options,
    StageKind.chains: _gather_chains,
    StageKind.samples: _gather_samples,
    StageKind.distill: _gather_rationales,
    StageKind.judge: _gather_judgements,
}
