"""What the wanted estimators need beyond the one forward pass, gathered cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.estimators import ESTIMATORS, Need, needs_of
from caft.pipeline.findings import Findings, StageKind
from caft.records import AnswerScore, Question, Rationale
from caft.run_config import RunConfig
from caft.score.chains import estimate_chain
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import (
    Chaining,
    Scoring,
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
from caft.store import Artifact, measured
from caft.teachers.api_key import check_address, check_endpoint
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.prices import find_price

if TYPE_CHECKING:
    from caft.pipeline.story import Workplace

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


def find_judge(config: RunConfig) -> OpenAITeacherConfig:
    """The endpoint that judges: score.judge, or the teacher's where that names no model."""
    assert isinstance(config.score, ModelScoreConfig)
    if config.score.judge.model or config.score.judge.base_url:
        return config.score.judge
    if isinstance(config.teacher, OpenAITeacherConfig):
        return config.teacher
    raise UserError(
        "the estimators judge_* need a model as judge; give score.judge.base_url= and "
        "score.judge.model=, or a teacher with an endpoint, such as teacher=openai"
    )


def refuse_unfit_prompts(place: Workplace) -> None:
    """UserError for prompts that only some estimator asks, now and not after the scoring."""
    needs = wanted_needs(place.config)
    if Need.fallback in needs and not find_scores(fallback_scoring(place), place.store):
        refuse_unfit_rows(fallback_scoring(place))
    if Need.chain in needs and not find_chains(chaining_of(place), place.store):
        refuse_long_chains(chaining_of(place))


def gather_estimates(
    place: Workplace,
    findings: Findings,
    buy_rationales: Callable[[Workplace, Findings, Sequence[Question]], None],
) -> None:
    """Everything that the wanted estimators need, put into the scores."""
    for need in wanted_needs(place.config):
        if need is Need.rationale:
            buy_rationales(place, findings, place.questions.train)
            _add(findings, "rationale_length", _measure_lengths(place, findings.rationales))
        elif need is not Need.single_token:
            _GATHERERS[need](place, findings)


def _gather_fallback(place: Workplace, findings: Findings) -> None:
    work = fallback_scoring(place)
    artifact = score_questions(work, place.store, place.config.trainer)
    findings.note(StageKind.fallback, "score fallback", artifact)
    findings.fallback = read_scores(artifact)
    entropies = {row.question_id: row.estimates["answer_entropy"] for row in findings.fallback}
    _add(findings, "fallback_entropy", entropies)
    # Declining is the last of the allowed replies.
    declines = {row.question_id: row.option_probabilities[-1] for row in findings.fallback}
    _add(findings, "fallback_declines", declines)


def fallback_scoring(place: Workplace) -> Scoring:
    """All questions once more, with a prompt that lets the base model decline."""
    config = place.config.score
    assert isinstance(config, ModelScoreConfig)
    return Scoring(
        place.student,
        [*place.questions.train, *place.held_out],
        place.questions.shots,
        place.config.dataset.prompt,
        config,
        config.fallback.wanted,
    )


def _gather_chains(place: Workplace, findings: Findings) -> None:
    artifact = write_chains(chaining_of(place), place.store, place.config.trainer)
    findings.note(StageKind.chains, "score chains", artifact)
    findings.chains = read_chains(artifact)
    estimates = {chain.question_id: estimate_chain(chain) for chain in findings.chains}
    for name in next(iter(estimates.values())):
        _add(findings, name, {key: values[name] for key, values in estimates.items()})


def chaining_of(place: Workplace) -> Chaining:
    """The base model's own chains of thought for all questions, with its shots."""
    config = place.config.score
    assert isinstance(config, ModelScoreConfig)
    return Chaining(
        place.student,
        [*place.questions.train, *place.held_out],
        place.questions.shots,
        place.config.dataset.prompt,
        config.chain,
    )


def judged_estimators(config: RunConfig) -> list[str]:
    """The estimators that a judge is asked for: only these are paid for."""
    return [name for name in wanted_estimators(config) if ESTIMATORS[name].need is Need.judge]


def _gather_judgements(place: Workplace, findings: Findings) -> None:
    from caft.pipeline.teaching import watch_asking

    names = judged_estimators(place.config)
    with measured() as effort, watch_asking(place.config.trainer.progress, "judge") as watcher:
        findings.judgements = ask_judge(
            [*place.questions.train, *place.held_out],
            names,
            prompt=place.config.dataset.prompt,
            judge=find_judge(place.config),
            ledger_path=place.store.ledger_path,
            progress=watcher.show,
        )
    artifact = keep_judgements(findings.judgements, place.store)
    judged = _of_effort(artifact, effort.seconds, effort.peak_memory_bytes)
    findings.note(StageKind.judge, "score judge", judged)
    for name in names:
        rows = [row for row in findings.judgements if row.estimator == name]
        _add(findings, name, {row.question_id: row.value for row in rows})


def tokens_to_estimate(
    findings: Findings, estimator: str, question_ids: Sequence[str]
) -> dict[str, int]:
    """Tokens that were generated to estimate each question's difficulty, whoever wrote them."""
    need = ESTIMATORS[estimator].need
    if need is Need.chain:
        return {chain.question_id: chain.generated_tokens for chain in findings.chains}
    if need is Need.judge:
        rows = [row for row in findings.judgements if row.estimator == estimator]
        return {row.question_id: row.completion_tokens for row in rows}
    return dict.fromkeys(question_ids, 1)


def _of_effort(artifact: Artifact, seconds: float, peak: int) -> Artifact:
    return replace(artifact, seconds=seconds, peak_memory_bytes=peak)


def _measure_lengths(place: Workplace, rationales: Sequence[Rationale]) -> Values:
    """Tokens (the student's) of each question's last reply, whether it may be trained on or not.

    A reply that never came has no length.
    """
    tokenizer = place.student.tokenizer
    texts = {row.question_id: row.text for row in rationales}
    return {
        key: float(len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)) or None
        for key, text in texts.items()
    }


def _add(findings: Findings, name: str, values: Values) -> None:
    assert findings.scores is not None
    findings.scores = [
        _with(score, name, values.get(score.question_id)) for score in findings.scores
    ]


def _with(score: AnswerScore, name: str, value: float | None) -> AnswerScore:
    return replace(score, estimates={**score.estimates, name: value})


_GATHERERS = {
    Need.fallback: _gather_fallback,
    Need.chain: _gather_chains,
    Need.judge: _gather_judgements,
}
