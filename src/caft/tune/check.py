"""The data check before training: are rows trained as evaluation will ask them? Pure.

Every error checked here has ruined training runs: labels that were all masked, a BOS twice or not
at all, an end token that was never learnt, prompts that differ between training and test.
"""

from __future__ import annotations

from collections.abc import Sequence

from caft.errors import UserError
from caft.protocols import Tokenizer
from caft.records import Example, Question, Target
from caft.text.config import PromptConfig
from caft.tune.config import Select, TuningConfig
from caft.tune.examples import choose_asked

OPEN, CLOSE = "\u27e6", "\u27e7"
"""The marks around the trained part of a rendered example."""

_LONGEST = 1_200
_PROBE = "caft probe"


def check_examples(examples: Sequence[Example], tokenizer: Tokenizer, end_id: int) -> None:
    """UserError if a row trains nothing, opens twice, or does not end in a trained end token."""
    bos = tokenizer.bos_token_id
    for row in examples:
        whole = row.prompt_ids + row.completion_ids
        name = f"the training row of question {row.question_id}"
        if not row.prompt_ids:
            raise UserError(f"{name} has an empty prompt; give the question a text")
        if not row.completion_ids or row.completion_ids[-1] != end_id:
            raise UserError(
                f"{name} does not end in the end-of-turn token "
                f"{tokenizer.convert_ids_to_tokens(end_id)!r}, and the model would never learn to "
                "stop; check the tokenizer's chat template"
            )
        if row.completion_ids == (end_id,):
            raise UserError(f"{name} trains no token but the end of the turn; drop the question")
        if bos is not None and whole[:2] == (bos, bos):
            raise UserError(
                f"{name} begins with the BOS token twice ({tokenizer.bos_token!r}); remove it from "
                "the chat template or of the tokenizer's settings, not both"
            )


def refuse_unmeasured(
    questions: Sequence[tuple[Question, Target]],
    prompt: PromptConfig,
    config: TuningConfig,
    stage: int,
) -> None:
    """UserError if a stage uses its validation accuracy, and no question would be asked.

    `questions` are the validation questions with their targets, `stage` counts from 1 on.
    """
    keeps_best = config.select is Select.best
    if config.validation_replies or not (keeps_best or config.patience):
        return
    if not choose_asked(questions, prompt, config):
        setting = "tuning.select=best" if keeps_best else f"tuning.patience={config.patience}"
        raise UserError(
            f"{setting} uses validation accuracy, but tuning.validation_replies is 0 and stage "
            f"{stage} of the method is validated by written replies only; set "
            "tuning.validation_replies=1 or more, or leave the other out"
        )


def find_bare_start(examples: Sequence[Example], tokenizer: Tokenizer) -> Example | None:
    """The first row without the BOS that the tokenizer itself puts before plain text, if any.

    An error in a completion. A chat template may leave it out on purpose, as Phi-3's does.
    """
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer(_PROBE).input_ids[:1] != [bos]:
        return None
    return next((row for row in examples if row.prompt_ids[:1] != (bos,)), None)


def refuse_bare_start(examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    """UserError if a completion row lacks the tokenizer's own BOS."""
    row = find_bare_start(examples, tokenizer)
    if row is not None:
        raise UserError(
            f"the training row of question {row.question_id} begins without the BOS token "
            f"({tokenizer.bos_token!r}) that the tokenizer puts before other texts; check the "
            "settings of the model's tokenizer"
        )


def check_prompts(examples: Sequence[Example], asked: Sequence[tuple[int, ...]]) -> None:
    """UserError if a row's prompt is not, token for token, what evaluation would ask."""
    for row, prompt_ids in zip(examples, asked, strict=True):
        if row.prompt_ids != prompt_ids:
            place = _first_difference(row.prompt_ids, prompt_ids)
            raise UserError(
                f"question {row.question_id} is trained with another prompt than evaluation asks "
                f"with (they differ from token {place} on); check the tokenizer's chat template "
                "and dataset.prompt"
            )


def _first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    same = [a == b for a, b in zip(left, right, strict=False)]
    return same.index(False) if False in same else len(same)


def render_example(example: Example, tokenizer: Tokenizer) -> str:
    """The row as the model reads it, with the trained part between two marks."""
    prompt = tokenizer.decode(list(example.prompt_ids))
    completion = tokenizer.decode(list(example.completion_ids))
    return f"{_shorten(prompt)}{OPEN}{_shorten(completion)}{CLOSE}"


def _shorten(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
