"""Questions and rationales as training rows. Pure but for the tokenizer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caft.errors import UserError, count_of
from caft.models.encoding import encode_answer_prompt, encode_reply, encode_thinking
from caft.protocols import Tokenizer
from caft.records import Example, Question, Rationale, Target
from caft.teachers.refusals import REASONING_TEACHERS, advise, count_reasons, list_reasons
from caft.text.answers import answer_labels, gold_label
from caft.text.config import OptionIds, PromptConfig
from caft.text.prompts import Wanted, bracketed, write_prompt
from caft.tune.config import AnswerTarget, Overlong, StageConfig, TuningConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """One row to be trained, before it is tokenised; `rationale` is empty for a bare answer.

    `reasoning` is what the student is to think before it writes the rationale.
    """

    question: Question
    target: Target
    complexity: str
    rationale: str = ""
    reasoning: str = ""


def choose_pairs(
    questions: Sequence[Question],
    complexity_of: Mapping[str, str],
    rationales: Sequence[Rationale],
    stage: StageConfig,
) -> list[TrainingPair]:
    """The rows of one stage, in the order of the questions.

    A question whose rationale was refused or is missing is left out, with all of its targets, and
    with the target `thinking` one whose teacher shows no reasoning. UserError if a class that the
    stage names has no row left.
    """
    written = {text_of(item.target, item.question_id): item for item in rationales if item.accepted}
    pairs: list[TrainingPair] = []
    silent, shares = 0, stage.shares
    for question in questions:
        name = complexity_of[question.id]
        targets = shares.get(name, {})
        texts = {target: written.get(text_of(target, question.id)) for target in targets}
        missing = [target for target, text in texts.items() if target.reasons and not text]
        thought = texts.get(Target.thinking)
        if thought and not thought.reasoning:
            silent += 1
        elif not missing:
            pairs += [_pair(question, target, name, text) for target, text in texts.items()]
    _refuse_empty_classes(pairs, complexity_of, rationales, stage)
    if silent:
        without = count_of(silent, "rationale")
        log.warning("not trained as thinking, for want of reasoning: %s", without)
    return pairs


def _pair(question: Question, target: Target, name: str, text: Rationale | None) -> TrainingPair:
    if text is None or not target.reasons:
        return TrainingPair(question, target, name)
    reasoning = (text.reasoning or "") if target is Target.thinking else ""
    return TrainingPair(question, target, name, text.text, reasoning)


def text_of(target: Target, question_id: str) -> tuple[Target, str]:
    """What a teacher thinks comes with the rationale; other targets have texts of their own."""
    return Target.rationale if target is Target.thinking else target, question_id


def _refuse_empty_classes(
    pairs: Sequence[TrainingPair],
    complexity_of: Mapping[str, str],
    rationales: Sequence[Rationale],
    stage: StageConfig,
) -> None:
    present = {pair.complexity for pair in pairs}
    for name, targets in stage.shares.items():
        if name not in present:
            texts = {
                target: [
                    row
                    for row in rationales
                    if complexity_of.get(row.question_id) == name
                    and text_of(row.target, "") == text_of(target, "")
                ]
                for target in targets
                if target.reasons
            }
            # Of several, the one of which the fewest texts are left.
            target = min(texts or targets, key=lambda each: _count_accepted(texts.get(each, ())))
            taught = name in complexity_of.values() and target.reasons
            reason = (
                f"no accepted rationale is left for it{_explain_refusals(texts[target], target)}"
                if taught
                else "no training question is in it; move the split's cut points"
            )
            what = "thinking" if target is Target.thinking else f"{target.name}s"
            raise UserError(f"the method trains the class {name} on {what}, but {reason}")


def _count_accepted(rows: Sequence[Rationale]) -> int:
    return sum(row.accepted for row in rows)


def _explain_refusals(rationales: Sequence[Rationale], target: Target) -> str:
    counts = count_reasons(rationales)
    if target is Target.thinking and any(row.accepted for row in rationales):
        return f" with the teacher's reasoning: {REASONING_TEACHERS}"
    return f" ({list_reasons(counts)}): {advise(next(iter(counts)))}" if counts else ""


def encode_pair(
    pair: TrainingPair,
    config: PromptConfig,
    answer_target: AnswerTarget,
    tokenizer: Tokenizer,
    *,
    chat: bool,
    end_id: int,
) -> Example:
    """The row's tokens; the completion ends in the end-of-turn token, which is trained."""
    question, wanted = pair.question, wanted_of(pair.target, answer_target)
    prompt = write_prompt(question, config, wanted, chat=chat)
    reply_ids: tuple[int, ...]
    gold = gold_label(question, config.option_ids)
    labels = answer_labels(question, config.option_ids)
    if wanted is Wanted.answer and labels:
        # The very position that was scored: see encode_answer_prompt on spaces and digits.
        encoded = encode_answer_prompt(prompt, tokenizer, labels, listed=bool(question.options))
        prompt_ids = encoded.prompt_ids
        reply_ids = (encoded.label_ids[labels.index(gold)],)
    elif pair.target is Target.thinking:
        prompt_ids, reply_ids = encode_thinking(prompt, pair.reasoning, pair.rationale, tokenizer)
    else:
        reply = reply_of(pair, wanted, config.option_ids)
        prompt_ids, reply_ids = encode_reply(prompt, reply, tokenizer)
    return Example(
        question_id=question.id,
        target=pair.target,
        complexity=pair.complexity,
        prompt_ids=prompt_ids,
        completion_ids=(*reply_ids, end_id),
    )


def reply_of(pair: TrainingPair, wanted: Wanted, option_ids: OptionIds) -> str:
    """What is trained in the form `wanted`, without what joins it to the prompt."""
    if wanted is Wanted.rationale:
        return pair.rationale
    gold = gold_label(pair.question, option_ids)
    return gold if wanted is Wanted.answer else bracketed(gold)


def wanted_of(target: Target, answer_target: AnswerTarget) -> Wanted:
    """The form of reply that a student's prompt requests for a target."""
    if target.reasons:
        return Wanted.rationale
    return Wanted.answer if answer_target is AnswerTarget.bare else Wanted.bracketed


def choose_asked(
    questions: Sequence[tuple[Question, Target]], prompt: PromptConfig, config: TuningConfig
) -> list[tuple[Question, Target]]:
    """The validation questions that are asked after an epoch.

    They are all that are answered in one pass, and of the others at most
    `tuning.validation_replies`: evenly chosen, and of every target its share.
    """
    written = [
        place
        for place, (question, target) in enumerate(questions)
        if wanted_of(target, config.answer_target) is not Wanted.answer
        or not answer_labels(question, prompt.option_ids)
    ]
    # A question's targets follow each other: every second place may be of one alone.
    written.sort(key=lambda place: questions[place][1].name)
    most = min(config.validation_replies, len(written))
    left_out = set(written) - {written[n * len(written) // most] for n in range(most)}
    return [item for place, item in enumerate(questions) if place not in left_out]


def fit_to_length(
    examples: Sequence[Example],
    max_length: int | None,
    overlong: Overlong,
    context: int | None = None,
) -> tuple[list[Example], list[str]]:
    """The rows within `max_length` and the model's `context`, and the question ids of the others.

    Nothing is ever cut: the end of a row is its answer. A question is kept with all of its rows.
    UserError under the policy `refuse`, and if dropping leaves a class without any row.
    """
    limit = min((limit for limit in (max_length, context) if limit), default=None)
    if limit is None:
        return list(examples), []
    remedy = "use a model with a longer context" if limit == context else "raise tuning.max_length"
    long = [example for example in examples if example.length > limit]
    if long and overlong is Overlong.refuse:
        longest = max(long, key=lambda example: example.length)
        raise UserError(
            f"question {longest.question_id} makes a training row of {longest.length} tokens, and "
            f"{len(long) - 1} more exceed the {limit} allowed; {remedy} or set "
            "tuning.overlong=drop"
        )
    left_out = dict.fromkeys(example.question_id for example in long)
    kept = [example for example in examples if example.question_id not in left_out]
    emptied = {row.complexity for row in long} - {row.complexity for row in kept}
    if emptied:
        raise UserError(
            f"every row of the class {', '.join(sorted(emptied))} is longer than the {limit} "
            f"tokens allowed, and nothing of it would be trained; {remedy}"
        )
    return kept, list(left_out)


def weigh_rows(
    examples: Sequence[Example],
    weights: Mapping[str, float],
    shares: Mapping[str, Mapping[Target, float]],
) -> list[Example]:
    """The rows with the weight of their tokens in the loss.

    It is that of the class in `weights` (1 where none is given), times s T / t where a class has
    several targets: s is the target's share of the class's loss, T the trained tokens of the
    class's rows, and t those of the rows with this target. So an answer of 2 tokens with the share
    0.3 counts 0.3 beside a rationale of 200, and the class as a whole counts its tokens.
    """
    tokens = Counter[tuple[str, Target | None]]()
    for row in examples:
        for key in ((row.complexity, None), (row.complexity, row.target)):
            tokens[key] += len(row.completion_ids)

    def weigh(row: Example) -> float:
        name, own = row.complexity, shares.get(row.complexity, {})
        factor = 1.0
        if len(own) > 1:
            factor = own[row.target] * tokens[name, None] / tokens[name, row.target]
        return weights.get(name, 1.0) * factor

    return [replace(row, weight=weigh(row)) for row in examples]
