"""The cost of a run, by every way of counting. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from caft.estimators import ESTIMATORS, Need
from caft.packed import pack, values_of
from caft.records import Judgement, Prediction, Rationale, TuningNumbers
from caft.report.schema import CostPart


def training_flops(stage: TuningNumbers) -> float:
    """Floating point operations of one tuning stage.

    2 N a token forward, 2 N backward through the activations, and 2 N more for the gradients of
    the N' weights that are trained (Kaplan et al. 2020, section 2.1); attention is left out.
    """
    tokens = stage.prompt_tokens + stage.trained_tokens
    return float(tokens) * (4 * stage.parameters + 2 * stage.trainable_parameters)


def count_cost(
    rationales: Sequence[Rationale],
    stages: Sequence[TuningNumbers],
    predictions: Sequence[Prediction],
    judgements: Sequence[Judgement] = (),
) -> CostPart:
    """The `cost` part of summary.json.

    Teacher tokens are what the teacher charged, refused replies included and whether bought by
    this run or an earlier one; `unique_rationale_tokens` are the student's tokens of every
    trained rationale once; the trained counts are of all epochs (the paper's way), those of
    rationales being a part of those of all responses. The cost of a judge's complexity estimates is
    separate, under `judge_*`; a teacher's log-probabilities are the teacher's. The
    `teacher_batch_*` are the teacher's calls that came in a provider's batch, if any did;
    `unsure_usd` is the most that calls without a reply may have been charged.
    """
    unique = {name: count for stage in stages for name, count in stage.rationale_tokens.items()}
    taught = [item for item in judgements if ESTIMATORS[item.estimator].need is not Need.judge]
    of_judge = [item for item in judgements if ESTIMATORS[item.estimator].need is Need.judge]
    of_teacher: Iterator[Rationale | Judgement] = chain(rationales, taught)
    bought = pack(item for item in of_teacher if _is_paid(item))
    judged = [item for item in of_judge if _is_paid(item)]
    batched = pack(item for item in bought if item.batched)
    cost: CostPart = {
        "teacher_calls": len(bought),
        "teacher_prompt_tokens": sum(item.prompt_tokens for item in bought),
        "teacher_completion_tokens": sum(item.completion_tokens for item in bought),
        "teacher_usd": float(sum(item.usd for item in bought)),
        "judge_calls": len(judged),
        "judge_prompt_tokens": sum(item.prompt_tokens for item in judged),
        "judge_completion_tokens": sum(item.completion_tokens for item in judged),
        "judge_usd": float(sum(item.usd for item in judged)),
        "unique_rationale_tokens": sum(unique.values()),
        "trained_rationale_tokens": sum(stage.trained_rationale_tokens for stage in stages),
        "trained_response_tokens": sum(stage.trained_tokens for stage in stages),
        "trained_total_tokens": sum(stage.prompt_tokens + stage.trained_tokens for stage in stages),
        "train_flops": float(sum(training_flops(stage) for stage in stages)),
        "evaluation_generated_tokens": sum(values_of(predictions, "generated_tokens")),
    }
    if batched:
        cost["teacher_batch_calls"] = len(batched)
        cost["teacher_batch_usd"] = float(sum(item.usd for item in batched))
    asked: Iterator[Rationale | Judgement] = chain(rationales, judgements)
    if unsure := sum(item.usd for item in asked if not _is_paid(item)):
        cost["unsure_usd"] = float(unsure)
    return cost


def spent_usd(cost: CostPart) -> float:
    """The money that teacher and judge charged."""
    return cost["teacher_usd"] + cost.get("judge_usd", 0.0)


def _is_paid(item: Rationale | Judgement) -> bool:
    return bool(item.prompt_tokens or item.completion_tokens)
