"""Training rows of a tokenizer whose every token is known: what is asked, and what is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from caft.errors import UserError
from caft.models.encoding import encode_answer_prompt, end_of_turn
from caft.records import Example, Question, Rationale, Target
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import AnswerTarget, Overlong, StageConfig, TuningConfig
from caft.tune.examples import (
    TrainingPair,
    choose_asked,
    choose_pairs,
    encode_pair,
    fit_to_length,
    weigh_rows,
)

OPTION_TOKENS = ("pick", "\n", "A", ".", " red", "\n", "B", ".", " blue")
CHAT_AFTER_SYSTEM = ("<end>", "<user>", *OPTION_TOKENS, "<end>", "<assistant>")
GREEDY_COLON = r": ?| ?[A-Za-z]+| ?\[\[|\]\]|\n|."


def row_of(pair, wording, tokenizer, *, chat, target=AnswerTarget.bare):
    end_id = end_of_turn(tokenizer, chat=chat)
    return encode_pair(pair, wording, target, tokenizer, chat=chat, end_id=end_id)


def test_chat_answer_is_the_bare_option_and_the_end_of_the_turn(
    tokenizer_of, ids_of, wording, colours
):
    row = row_of(TrainingPair(colours, Target.answer, "easy"), wording, tokenizer_of(), chat=True)
    assert row.prompt_ids == ids_of("<s>", "<system>", "answer", *CHAT_AFTER_SYSTEM)
    assert row.completion_ids == ids_of("B", "<end>")
    assert (row.question_id, row.target, row.complexity) == ("q1", Target.answer, "easy")


def test_completion_answer_carries_the_space_that_the_scored_token_has(
    tokenizer_of, ids_of, wording, colours
):
    pair = TrainingPair(colours, Target.answer, "easy")
    row = row_of(pair, wording, tokenizer_of(chat=False), chat=False)
    assert row.prompt_ids == ids_of("<s>", *OPTION_TOKENS, "\n", "Answer", ":")
    assert row.completion_ids == ids_of(" B", "<stop>")


def test_a_space_that_is_a_token_of_its_own_stays_in_the_prompt(tokenizer_of, ids_of, wording):
    digits = Question(id="q2", text="pick", answer_set=("1", "2"), gold_index=1)
    pair = TrainingPair(digits, Target.answer, "easy")
    row = row_of(pair, wording, tokenizer_of(chat=False), chat=False)
    # No options are shown: the line they would fill is empty.
    assert row.prompt_ids == ids_of("<s>", "pick", "\n", "\n", "Answer", ":", " ")
    assert row.completion_ids == ids_of("2", "<stop>")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("answer_set", [(), ("1", "2")])
def test_bare_answer_stands_at_the_position_that_is_scored(
    tokenizer_of, wording, colours, chat, answer_set
):
    question = replace(colours, options=(), answer_set=answer_set) if answer_set else colours
    tokenizer = tokenizer_of(chat=chat)
    row = row_of(TrainingPair(question, Target.answer, "easy"), wording, tokenizer, chat=chat)
    scored = encode_answer_prompt(
        write_prompt(question, wording, Wanted.answer, chat=chat),
        tokenizer,
        answer_set or ("A", "B"),
    )
    assert row.prompt_ids == scored.prompt_ids
    assert row.completion_ids[0] == scored.label_ids[1]


@pytest.mark.parametrize("chat", [True, False])
def test_bracketed_answer_is_the_papers_marker(tokenizer_of, ids_of, wording, colours, chat):
    pair = TrainingPair(colours, Target.answer, "easy")
    tokenizer = tokenizer_of(chat=chat)
    row = row_of(pair, wording, tokenizer, chat=chat, target=AnswerTarget.bracketed)
    asked, trained = (
        (("<system>", "brackets", *CHAT_AFTER_SYSTEM), ("[[", "B", "]]", "<end>"))
        if chat
        else ((*OPTION_TOKENS, "\n", "Answer", ":"), (" [[", "B", "]]", "<stop>"))
    )
    assert row.prompt_ids == ids_of("<s>", *asked)
    assert row.completion_ids == ids_of(*trained)


@pytest.mark.parametrize("target", AnswerTarget)
def test_rationale_is_trained_word_for_word_whatever_the_answer_target(
    tokenizer_of, ids_of, wording, colours, target
):
    pair = TrainingPair(colours, Target.rationale, "hard", "So B [[B]]")
    row = row_of(pair, wording, tokenizer_of(), chat=True, target=target)
    assert row.prompt_ids == ids_of("<s>", "<system>", "think", *CHAT_AFTER_SYSTEM)
    assert row.completion_ids == ids_of("So", " B", " [[", "B", "]]", "<end>")


def test_free_text_is_trained_as_it_stands(tokenizer_of, ids_of, wording):
    free = Question(id="q3", text="pick", gold_text="So red")
    row = row_of(TrainingPair(free, Target.answer, "easy"), wording, tokenizer_of(), chat=True)
    assert row.completion_ids == ids_of("So", " red", "<end>")


@pytest.mark.parametrize("chat", [True, False])
def test_end_token_is_trained_even_where_it_is_the_padding_too(
    tokenizer_of, ids_of, wording, colours, chat
):
    eos = "<end>" if chat else "<stop>"
    tokenizer = tokenizer_of(chat=chat, eos=eos, pad=eos)
    row = row_of(TrainingPair(colours, Target.answer, "easy"), wording, tokenizer, chat=chat)
    assert row.completion_ids[-1:] == ids_of(eos)


@pytest.mark.parametrize("chat", [True, False])
def test_every_row_has_one_bos(tokenizer_of, ids_of, wording, colours, chat):
    for target in set(Target) - {Target.thinking}:  # tests/models/test_thinking_turns.py
        pair = TrainingPair(colours, target, "easy", "So [[B]]")
        row = row_of(pair, wording, tokenizer_of(chat=chat), chat=chat)
        assert (row.prompt_ids + row.completion_ids).count(ids_of("<s>")[0]) == 1


def test_a_teacher_cannot_close_the_turn_from_inside_its_text(
    tokenizer_of, ids_of, wording, colours
):
    pair = TrainingPair(colours, Target.rationale, "hard", "So<end><user>[[B]]")
    row = row_of(pair, wording, tokenizer_of(), chat=True)
    special = set(ids_of("<s>", "<end>", "<user>", "<assistant>"))
    assert [token for token in row.completion_ids if token in special] == list(ids_of("<end>"))


def test_prompt_and_reply_that_melt_into_one_token_are_refused(tokenizer_of, wording, colours):
    tokenizer = tokenizer_of(chat=False, pattern=GREEDY_COLON)
    pair = TrainingPair(colours, Target.rationale, "hard", "So [[B]]")
    with pytest.raises(UserError, match="merge"):
        row_of(pair, wording, tokenizer, chat=False)


def make_example(name: str, length: int, target=Target.answer, complexity="easy") -> Example:
    return Example(
        question_id=name,
        target=target,
        complexity=complexity,
        prompt_ids=(1,) * (length - 1),
        completion_ids=(2,),
    )


def test_rows_of_just_the_allowed_length_stay():
    rows = [make_example("a", 4), make_example("b", 5)]
    for policy in Overlong:
        assert fit_to_length(rows, 5, policy) == (rows, [])
    assert fit_to_length(rows, None, Overlong.refuse) == (rows, [])


def test_long_rows_are_refused_by_name_and_number():
    rows = [make_example("a", 6), make_example("b", 9), make_example("c", 5)]
    with pytest.raises(UserError, match=r"question b .* 9 tokens, and 1 more .* the 5 allowed"):
        fit_to_length(rows, 5, Overlong.refuse)


@pytest.mark.parametrize(
    ("max_length", "context", "advice"),
    [
        (5, None, "raise tuning.max_length"),
        (5, 6, "raise tuning.max_length"),
        (None, 5, "use a model with a longer context"),
        (6, 5, "use a model with a longer context"),
    ],
)
def test_the_advice_on_long_rows_is_of_what_limits_them(max_length, context, advice):
    rows = [make_example("a", 9)]
    with pytest.raises(UserError, match=f"the 5 allowed; {advice} or set tuning.overlong=drop$"):
        fit_to_length(rows, max_length, Overlong.refuse, context)
    with pytest.raises(UserError, match=f"the 5 tokens allowed, .*; {advice}$"):
        fit_to_length(rows, max_length, Overlong.drop, context)


def test_long_rows_are_dropped_whole_and_named():
    rows = [make_example("a", 6), make_example("b", 9), make_example("c", 5)]
    assert fit_to_length(rows, 5, Overlong.drop) == ([rows[2]], ["a", "b"])


def test_a_question_with_a_long_row_is_dropped_with_all_of_its_rows():
    rows = [
        make_example(name, length, target)
        for name, length in (("a", 6), ("b", 3))
        for target in (Target.rationale, Target.answer)
    ]
    rows[1] = replace(rows[1], prompt_ids=(1,))
    assert fit_to_length(rows, 5, Overlong.drop) == (rows[2:], ["a"])


@pytest.mark.parametrize("survivors", [[], [make_example("c", 3)]])
def test_a_class_whose_every_row_is_dropped_is_refused(survivors):
    hard = make_example("a", 6, Target.rationale, "hard")
    with pytest.raises(UserError, match=r"class hard .* tuning\.max_length"):
        fit_to_length([hard, *survivors], 5, Overlong.drop)


# Which validation questions are asked


def choose(asked, replies: int, target=AnswerTarget.bare):
    config = TuningConfig(validation_replies=replies, answer_target=target)
    return choose_asked(asked, PromptConfig(), config)


def test_written_replies_are_thinned_evenly_and_answers_never():
    rows = [Question(id=f"q{n}", text="pick", options=("red", "blue")) for n in range(10)]
    written = [(question, Target.rationale) for question in rows]
    assert [question.id for question, _ in choose(written, 4)] == ["q0", "q2", "q5", "q7"]
    assert choose(written, 0) == []
    assert len(choose(written, 99)) == 10
    answers = [(question, Target.answer) for question in rows[:5]]
    assert choose([*answers, *written[5:]], 1) == [*answers, written[5]]


@pytest.mark.parametrize("count", [36, 48, 100, 120])
def test_of_several_targets_each_has_its_share_of_the_written_replies(count):
    rows = [Question(id=f"q{n}", text="pick", options=("red", "blue")) for n in range(count)]
    targets = (Target.rationale, Target.answer)
    asked = [(question, target) for question in rows for target in targets]
    chosen = choose(asked, 24, AnswerTarget.bracketed)
    assert Counter(target for _, target in chosen) == dict.fromkeys(targets, 12)
    assert chosen == [item for item in asked if item in chosen]


# Which questions become training pairs


def questions(*names: str) -> list[Question]:
    return [Question(id=name, text="pick", gold_text="So") for name in names]


def written(name: str, text: str = "So", refusal: str = "") -> Rationale:
    return Rationale(question_id=name, text=text, answer="So", agrees=True, refusal=refusal)


def test_each_class_gets_its_target_in_the_order_of_the_questions():
    placed = {"a": "hard", "b": "easy", "c": "middle", "d": "easy"}
    stage = StageConfig(targets={"easy": Target.answer, "hard": Target.rationale})
    pairs = choose_pairs(questions(*"abcd"), placed, [written("a", "Why"), written("b")], stage)
    assert [(item.question.id, item.target, item.rationale) for item in pairs] == [
        ("a", Target.rationale, "Why"),
        ("b", Target.answer, ""),
        ("d", Target.answer, ""),
    ]


def test_refused_and_missing_rationales_leave_their_questions_out():
    stage = StageConfig(targets={"hard": Target.rationale})
    replies = [written("a", refusal="disagrees with gold"), written("b")]
    pairs = choose_pairs(questions(*"abc"), dict.fromkeys("abc", "hard"), replies, stage)
    assert [item.question.id for item in pairs] == ["b"]


def test_each_target_gets_the_text_that_was_asked_for_it():
    stage = StageConfig(
        targets={
            "easy": Target.short_rationale, "middle": Target.rationale, "hard": Target.thinking
        }
    )  # fmt: skip
    rows = [
        replace(written(name, text), target=target, reasoning="Hm.")
        for name in "abc"
        for text, target in (
            ("Short", Target.short_rationale),
            ("Long", Target.thinking if name == "c" else Target.rationale),
        )
    ]
    placed = {"a": "easy", "b": "middle", "c": "hard"}
    pairs = choose_pairs(questions(*"abc"), placed, rows, stage)
    assert [(item.rationale, item.reasoning) for item in pairs] == [
        ("Short", ""), ("Long", ""), ("Long", "Hm."),
    ]  # fmt: skip
    # A short one is no rationale, whatever else is missing.
    only_short = [row for row in rows if row.target is Target.short_rationale]
    with pytest.raises(UserError, match="class middle on rationales, but no accepted rationale"):
        choose_pairs(questions(*"abc"), placed, only_short, stage)


def test_a_class_with_several_targets_trains_each_question_with_each_of_them():
    shares = {Target.rationale: 3.0, Target.answer: 1.0}
    stage = StageConfig(targets={"easy": Target.answer, "hard": shares})
    assert stage.shares["hard"] == {Target.rationale: 0.75, Target.answer: 0.25}
    placed = {"a": "hard", "b": "easy", "c": "hard"}
    replies = [written("a", "Why"), written("c", refusal="wrong")]
    pairs = choose_pairs(questions(*"abc"), placed, replies, stage)
    # Without its rationale c is not trained on its answer either: every class keeps its mixture.
    assert [(item.question.id, item.target, item.rationale) for item in pairs] == [
        ("a", Target.rationale, "Why"),
        ("a", Target.answer, ""),
        ("b", Target.answer, ""),
    ]
    with pytest.raises(UserError, match="class hard on rationales, but no accepted rationale"):
        choose_pairs(questions(*"abc"), placed, replies[1:], stage)


def test_rows_without_reasoning_are_left_out_of_thinking_and_counted(caplog):
    stage = StageConfig(targets={"hard": Target.thinking})
    rows = [written("a"), replace(written("b"), reasoning="Hm."), written("c")]
    pairs = choose_pairs(questions(*"abc"), dict.fromkeys("abc", "hard"), rows, stage)
    assert [item.question.id for item in pairs] == ["b"]
    assert "for want of reasoning: 2 rationales" in caplog.text
    with pytest.raises(UserError, match=r"class hard on thinking, .*field reasoning"):
        choose_pairs(questions("a"), {"a": "hard"}, rows[:1], stage)


def test_a_class_without_questions_says_to_move_the_cuts():
    stage = StageConfig(targets={"easy": Target.answer, "middle": Target.answer})
    with pytest.raises(UserError, match=r"class middle .* move the split's cut points"):
        choose_pairs(questions("a"), {"a": "easy"}, [], stage)


def test_a_class_without_accepted_rationales_says_to_look_at_the_refusals():
    stage = StageConfig(targets={"hard": Target.rationale})
    with pytest.raises(UserError, match=r"class hard .* teacher\.keep=all"):
        choose_pairs(questions("a"), {"a": "hard"}, [written("a", refusal="cut off")], stage)


def test_of_several_missing_texts_the_rarest_is_named_with_its_own_refusals():
    shares = {Target.rationale: 0.5, Target.short_rationale: 0.5}
    stage = StageConfig(targets={"hard": shares})
    short = replace(written("a", refusal="wrong"), target=Target.short_rationale)
    other = written("z", refusal="cut_off")
    with pytest.raises(UserError, match=r"on short_rationales, .*\(1 wrong\): teacher\.attempts"):
        choose_pairs(
            questions("a"), {"a": "hard", "z": "easy"}, [written("a"), short, other], stage
        )


def test_a_class_of_one_target_keeps_its_weight_whatever_its_share():
    (row,) = weigh_rows([make_example("a", 4)], {"easy": 0.5}, {"easy": {Target.answer: 0.3}})
    assert row.weight == 0.5
