"""What the data check refuses, on rows written by hand, and what it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers.processors import TemplateProcessing

from caft.errors import UserError
from caft.records import Example, Target
from caft.tune.check import (
    check_examples,
    check_prompts,
    find_bare_start,
    refuse_bare_start,
    refuse_unmeasured,
    render_example,
)
from caft.tune.config import AnswerTarget, Select, TuningConfig
from caft.tune.examples import TrainingPair, encode_pair


@pytest.fixture
def row(ids_of) -> Example:
    return Example(
        question_id="q1",
        target=Target.answer,
        complexity="easy",
        prompt_ids=ids_of("<s>", "<user>", "pick", "<end>", "<assistant>"),
        completion_ids=ids_of("B", "<end>"),
    )


def test_a_sound_row_passes_even_where_padding_is_the_end_token(tokenizer_of, ids_of, row):
    (end,) = ids_of("<end>")
    check_examples([row], tokenizer_of(eos="<end>", pad="<end>"), end)


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("<s> <s> <user> pick", "B <end>", "BOS token twice"),
        ("<s> <user> pick", "B", "does not end in the end-of-turn token '<end>'"),
        ("<s> <user> pick", "B <stop>", "does not end in the end-of-turn token"),
        ("<s> <user> pick", "", "does not end"),
        ("<s> <user> pick", "<end>", "trains no token but the end"),
        ("", "B <end>", "empty prompt"),
    ],
)
def test_faulty_rows_are_refused_by_name(  # noqa: PLR0917
    tokenizer_of, ids_of, row, prompt, completion, expected
):
    faulty = replace(
        row,
        question_id="q7",
        prompt_ids=ids_of(*prompt.split()),
        completion_ids=ids_of(*completion.split()),
    )
    with pytest.raises(UserError, match="question q7") as caught:
        check_examples([row, faulty], tokenizer_of(), ids_of("<end>")[0])
    assert expected in str(caught.value)


def test_a_completion_without_the_bos_that_the_tokenizer_writes_is_refused(
    tokenizer_of, ids_of, row
):
    bare = replace(row, question_id="q7", prompt_ids=row.prompt_ids[1:])
    refuse_bare_start([row], tokenizer_of(chat=False))
    with pytest.raises(UserError, match=r"question q7 begins without the BOS token \('<s>'\)"):
        refuse_bare_start([row, bare], tokenizer_of(chat=False))
    # A tokenizer that knows a BOS and writes none is right about its own model.
    silent = tokenizer_of(chat=False)
    silent.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    refuse_bare_start([bare], silent)


def test_a_chat_template_that_leaves_the_bos_out_is_noticed(tokenizer_of, ids_of, wording, colours):
    (end_id,) = ids_of("<end>")

    def begins_bare(tokenizer, *, chat):
        pair = TrainingPair(colours, Target.answer, "easy")
        row = encode_pair(pair, wording, AnswerTarget.bare, tokenizer, chat=chat, end_id=end_id)
        return find_bare_start([row], tokenizer) is not None

    forgetful = tokenizer_of()
    forgetful.chat_template = forgetful.chat_template.removeprefix("{{ bos_token }}")
    assert begins_bare(forgetful, chat=True)
    assert not begins_bare(forgetful, chat=False)
    assert not begins_bare(tokenizer_of(), chat=True)


def test_one_answer_is_enough_to_measure_by_and_free_text_is_none(wording, colours):
    best = TuningConfig(validation_replies=0, select=Select.best)
    taught = (colours, Target.rationale)
    free = (replace(colours, options=(), gold_index=None, gold_text="So"), Target.answer)
    refuse_unmeasured([taught, (colours, Target.answer)], wording, best, 1)
    refuse_unmeasured([taught, free], wording, TuningConfig(validation_replies=0), 1)
    with pytest.raises(UserError, match=r"tuning\.select=best uses .* stage 3 of the method"):
        refuse_unmeasured([taught, free], wording, best, 3)


def test_a_prompt_that_evaluation_asks_otherwise_is_refused_with_the_place(row, ids_of):
    check_prompts([row], [row.prompt_ids])
    asked = (*row.prompt_ids[:3], *ids_of("\n"), *row.prompt_ids[3:])
    with pytest.raises(UserError, match=r"question q1 .* from token 3 on"):
        check_prompts([row], [asked])
    with pytest.raises(UserError, match="from token 4 on"):
        check_prompts([row], [row.prompt_ids[:4]])


def test_the_rendered_row_marks_what_is_trained(tokenizer_of, row):
    text = render_example(row, tokenizer_of())
    assert text.replace(" ", "") == "<s><user>pick<end><assistant>\u27e6B<end>\u27e7"


def test_a_long_row_is_shown_by_its_ends(tokenizer_of, ids_of, row):
    long = replace(row, prompt_ids=ids_of("<s>", *["A"] * 3000, "B"))
    text = render_example(long, tokenizer_of())
    assert len(text) < 1500
    assert "characters ...]" in text
    assert text.startswith("<s>")
