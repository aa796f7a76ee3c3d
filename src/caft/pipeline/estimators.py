"""What the wanted estimators need beyond the one forward pass, gathered cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from caft.errors import UserError
from caft.estimators import ESTIMATORS, Need, needs_of
from caft.pipeline.results import Scored, StageKind, record_stage
from caft.pipeline.stage_inputs import base_chains, fallback_scoring, model_scoring
from caft.pipeline.teaching import buy_rationales, watch_asking
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Question, Rationale
from caft.run_config import RunConfig
from caft.score.chains import estimate_chain
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import (
    ask_judge,
    find_chains,
    find_scores,
    keep_judgements,
    read_chains,
    read_scores,
    refuse_long_chains,
    refuse_unfit_rows,
    score_questions,
    write_chains,
)
from caft.split.config import Match, RandomSplitConfig
from caft.store import measured
from caft.teachers.api_key import check_address, check_endpoint
from caft.teachers.config import EndpointConfig, OpenAITeacherConfig
from caft.teachers.prices import find_price

Values = Mapping[str, float | None]
"""One estimate by question id."""


def wanted_estimators(config: RunConfig) -> list[str]:
    """The estimator that splits, and those that are only to be validated."""
    # The random control of a matched budget needs what its reference needs.
    matched = isinstance(config.split, RandomSplitConfig) and config.split.match is not Match.sizes
    chosen = getattr(config.split, "reference" if matched else "estimator", None)
    others = config.score.estimators if isinstance(config.score, ModelScoreConfig) else []
    return list(dict.fromkeys([*([chosen] if chosen else []), *others]))


def wanted_needs(config: RunConfig) -> list[Need]:
    """What must be gathered, cheapest first."""
    return needs_of(wanted_estimators(config))


def check_estimators(config: RunConfig, questions: Sequence[Question]) -> None:
    """UserError, before any model loads, where a wanted estimator cannot be had."""
    for name in wanted_estimators(config):
        if isinstance(config.score, PublishedScoreConfig) and name != "answer_entropy":
            raise UserError(
                f"split.estimator is {name}, but score=published has answer_entropy only; "
                "take score=model, or split.estimator=answer_entropy"
            )
        _refuse_without_values(name, questions)
    if Need.judge in wanted_needs(config):
        judge = find_judge(config)
        check_address(judge)
        if not config.dry_run:
            check_endpoint(judge)
            find_price(judge)


def _refuse_without_values(name: str, questions: Sequence[Question]) -> None:
    """Some estimates exist for free text only, some for listed or closed answers only."""
    free = [question for question in questions if question.gold_index is None]
    if ESTIMATORS[name].free_text and len(free) < len(questions):
        raise UserError(
            f"the estimator {name} is for free-text answers, and these questions have one-token "
            "answers; take answer_entropy, which is the same thing here"
        )
    chooses = name in ("option_entropy", "option_mass", "gold_cross_entropy")
    # Declining is one more answer to choose from; where every text is an answer, 0 is one, too.
    if (chooses or ESTIMATORS[name].need is Need.fallback) and free:
        raise UserError(
            f"the estimator {name} needs questions with options, or a closed set of answers, and "
            f"question {free[0].id} is free text; take answer_entropy or answer_mean_entropy"
        )


def find_judge(config: RunConfig) -> EndpointConfig:
    """The endpoint that judges: score.judge, or the teacher's where that names no model."""
    judge = model_scoring(config).judge
    if judge.model or judge.base_url:
        return judge
    if isinstance(config.teacher, OpenAITeacherConfig):
        return config.teacher
    raise UserError(
        "the estimators judge_* need a model as judge; give score.judge.base_url= and "
        "score.judge.model=, or a teacher with an endpoint, such as teacher=openai"
    )


def judged_estimators(config: RunConfig) -> list[str]:
    """The estimators that a judge is asked for: only these are paid for."""
    return [name for name in wanted_estimators(config) if ESTIMATORS[name].need is Need.judge]


def refuse_unfit_prompts(workspace: Workspace) -> None:
    """UserError for prompts that only some estimator asks, now and not after the scoring."""
    needs = wanted_needs(workspace.config)
    if Need.fallback in needs:
        scoring = fallback_scoring(workspace)
        if not find_scores(scoring, workspace.store):
            refuse_unfit_rows(scoring)
    if Need.chain in needs:
        chains = base_chains(workspace)
        if not find_chains(chains, workspace.store):
            refuse_long_chains(chains)


def gather_estimates(workspace: Workspace, scored: Scored) -> Scored:
    """`scored` with everything that the wanted estimators need beyond it."""
    for need in wanted_needs(workspace.config):
        if need in _GATHERERS:
            scored = _GATHERERS[need](workspace, scored)
    return scored


def _gather_fallback(workspace: Workspace, scored: Scored) -> Scored:
    artifact = score_questions(
        fallback_scoring(workspace), workspace.store, workspace.config.trainer
    )
    rows = read_scores(artifact)
    estimates: dict[str, Values] = {
        "fallback_entropy": {row.question_id: row.estimates["answer_entropy"] for row in rows},
        # Declining is the last of the allowed replies.
        "fallback_declines": {row.question_id: row.option_probabilities[-1] for row in rows},
    }
    return replace(
        scored,
        scores=_add(scored.scores, estimates),
        fallback=rows,
        stages=(*scored.stages, record_stage(StageKind.fallback, "score fallback", artifact)),
    )


def _gather_chains(workspace: Workspace, scored: Scored) -> Scored:
    artifact = write_chains(base_chains(workspace), workspace.store, workspace.config.trainer)
    chains = read_chains(artifact)
    by_question = {chain.question_id: estimate_chain(chain) for chain in chains}
    names = next(iter(by_question.values()))
    estimates = {name: {key: values[name] for key, values in by_question.items()} for name in names}
    return replace(
        scored,
        scores=_add(scored.scores, estimates),
        chains=chains,
        stages=(*scored.stages, record_stage(StageKind.chains, "score chains", artifact)),
    )


def _gather_rationales(workspace: Workspace, scored: Scored) -> Scored:
    rationales, record = buy_rationales(workspace, workspace.questions.train)
    lengths = _measure_lengths(workspace, rationales)
    return replace(
        scored,
        scores=_add(scored.scores, {"rationale_length": lengths}),
        rationales=rationales,
        stages=(*scored.stages, record),
    )


def _gather_judgements(workspace: Workspace, scored: Scored) -> Scored:
    config = workspace.config
    names = judged_estimators(config)
    with measured() as effort, watch_asking(config.trainer.progress, "judge") as watcher:
        judgements = ask_judge(
            workspace.every_question,
            names,
            prompt=config.dataset.prompt,
            judge=find_judge(config),
            ledger_path=workspace.store.ledger_path,
            progress=watcher.show,
        )
    artifact = keep_judgements(judgements, workspace.store)
    record = replace(
        record_stage(StageKind.judge, "score judge", artifact),
        seconds=effort.seconds,
        peak_memory_bytes=effort.peak_memory_bytes,
    )
    estimates = {
        name: {row.question_id: row.value for row in judgements if row.estimator == name}
        for name in names
    }
    return replace(
        scored,
        scores=_add(scored.scores, estimates),
        judgements=judgements,
        stages=(*scored.stages, record),
    )


def tokens_to_estimate(
    scored: Scored, estimator: str, question_ids: Sequence[str]
) -> dict[str, int]:
    """Tokens that were generated to estimate each question's difficulty, whoever wrote them."""
    need = ESTIMATORS[estimator].need
    if need is Need.chain:
        return {chain.question_id: chain.generated_tokens for chain in scored.chains}
    if need is Need.judge:
        rows = [row for row in scored.judgements if row.estimator == estimator]
        return {row.question_id: row.completion_tokens for row in rows}
    return dict.fromkeys(question_ids, 1)


def _measure_lengths(workspace: Workspace, rationales: Sequence[Rationale]) -> Values:
    """Tokens (the student's) of each question's last reply, whether it may be trained on or not.

    A reply that never came has no length.
    """
    tokenizer = workspace.student.tokenizer
    texts = {row.question_id: row.text for row in rationales}
    return {
        key: float(len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)) or None
        for key, text in texts.items()
    }


def _add(scores: Sequence[AnswerScore], estimates: Mapping[str, Values]) -> list[AnswerScore]:
    return [
        replace(
            score,
            estimates={
                **score.estimates,
                **{name: values.get(score.question_id) for name, values in estimates.items()},
            },
        )
        for score in scores
    ]


_GATHERERS: dict[Need, Callable[[Workspace, Scored], Scored]] = {
    Need.fallback: _gather_fallback,
    Need.chain: _gather_chains,
    Need.rationale: _gather_rationales,
    Need.judge: _gather_judgements,
}
