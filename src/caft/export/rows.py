"""The training rows of one tuning stage, as the texts and tokens that the run trains. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caft.models.encoding import (
    encode_prompt,
    end_of_turn,
    harmless,
    render_prompt,
    uses_chat_template,
)
from caft.models.thinking_span import thinking_form_of
from caft.protocols import Tokenizer
from caft.records import Example, Rationale, Target
from caft.text.prompts import Prompt, Wanted, write_prompt
from caft.text.thinking import find_open_mark
from caft.tune.examples import TrainingPair, reply_of, text_of, wanted_of
from caft.tune.stage import TrainingRows, TuneInputs

_Sources = Mapping[tuple[Target, str], Rationale]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a stage.

    `prompt` and `completion` are the whole texts, special tokens included: the completion begins
    where the loss does, and closes with `end`, the end-of-turn token. `turns` are the same as chat
    messages, the reply last; empty where the run's prompts are no chats. `teacher` wrote the reply,
    and is empty for an answer; `ledger_key` names what was paid for.
    """

    example: Example
    prompt: str
    completion: str
    end: str
    turns: tuple[tuple[str, str], ...]
    teacher: str = ""
    ledger_key: str = ""


def list_rows(
    tuning: TuneInputs, encoded: TrainingRows, rationales: Sequence[Rationale]
) -> list[Row]:
    """The rows that any epoch of the stage trains, in the order of its questions."""
    left_out = set(encoded.dropped)
    pairs = [pair for pair in tuning.pairs if pair.question.id not in left_out]
    sources = {text_of(row.target, row.question_id): row for row in rationales if row.accepted}
    return [
        _make_row(pair, example, tuning, sources)
        for pair, example in zip(pairs, encoded.examples, strict=True)
    ]


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts its BOS before every text."""
    return tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]


def _make_row(pair: TrainingPair, example: Example, tuning: TuneInputs, sources: _Sources) -> Row:
    tokenizer, thinks = tuning.student.tokenizer, pair.target is Target.thinking
    chat = uses_chat_template(tuning.prompt.style, tokenizer)
    wanted = wanted_of(pair.target, tuning.config.answer_target)
    prompt = write_prompt(pair.question, tuning.prompt, wanted, chat=chat)
    rendered = render_prompt(prompt, tokenizer, thinking=thinks)
    reply = _write_reply(pair, prompt, wanted, tuning)
    # A tokenizer that writes " 5" as a space and a digit has the space on the prompt's side.
    whole = encode_prompt(prompt, tokenizer, thinking=thinks) == example.prompt_ids
    before, after = ("", prompt.joiner) if whole else (prompt.joiner, "")
    bos = tokenizer.bos_token if not chat and begins_with_bos(tokenizer) else ""
    end = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, chat=chat))
    source = sources.get(text_of(pair.target, pair.question.id)) if pair.target.reasons else None
    return Row(
        example=example,
        prompt=f"{bos}{rendered}{before}",
        completion=f"{after}{reply}{end}",
        end=end,
        turns=(*prompt.turns, ("assistant", _opened(rendered, thinks) + reply)) if chat else (),
        teacher=source.source if source else "",
        ledger_key=source.ledger_key if source else "",
    )


def _write_reply(pair: TrainingPair, prompt: Prompt, wanted: Wanted, tuning: TuneInputs) -> str:
    """The reply as `encode_pair` trains it, without what joins it to the prompt."""
    tokenizer = tuning.student.tokenizer
    if pair.target is Target.thinking:
        form = thinking_form_of(prompt, tokenizer)
        texts = (harmless(text, tokenizer) for text in (pair.reasoning, pair.rationale))
        return form.write(*texts)
    return harmless(reply_of(pair, wanted, tuning.prompt.option_ids), tokenizer)


def _opened(rendered: str, thinks: bool) -> str:
    """What the prompt has opened already belongs to the reply where a chat is shown whole."""
    mark = find_open_mark(rendered) if thinks else None
    return rendered[rendered.rindex(mark) :] if mark else ""
