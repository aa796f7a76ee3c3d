"""Validation between epochs: the same answers as asking the model plainly, and nothing moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from caft.models.config import Architecture
from caft.models.reply_rules import ReplyRules
from caft.records import Question
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted
from caft.tune.validation import (
    ValidationSet,
    ask,
    count_correct,
    is_right,
)
from numerics import in_float64

PROMPT = PromptConfig()


@pytest.fixture(scope="module")
def student_of(tiny_student) -> Any:
    return lambda architecture: tiny_student(architecture=Architecture[architecture])


def questions(count: int) -> list[Question]:
    return [
        Question(id=f"q{n}", text="word " * (n + 1), options=("red", "blue"), gold_index=n % 2)
        for n in range(count)
    ]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_answers_are_counted_as_a_plain_forward_pass_gives_them(student_of, architecture):
    student = student_of(architecture)
    # The two best tokens of an untrained model may be tied in any other dtype.
    model, tokenizer = in_float64(student.load()), student.tokenizer
    asked = [ask(q, Wanted.answer, PROMPT, tokenizer, chat=True) for q in questions(7)]
    with torch.inference_mode():
        predicted = [
            int(model(input_ids=torch.tensor([item.prompt_ids])).logits[0, -1].argmax())
            for item in asked
        ]
    # Whatever the untrained model says becomes gold for some of them, so that some are right.
    asked = [
        replace(item, gold_token=token) if n % 3 else item
        for n, (item, token) in enumerate(zip(asked, predicted, strict=True))
    ]
    expected = sum(item.gold_token == token for item, token in zip(asked, predicted, strict=True))
    assert expected >= 4
    rules = ReplyRules(max_new_tokens=4, end_ids=())
    validation_set = ValidationSet(tuple(asked), PROMPT, 60, written=rules, bare=rules)
    told: list[int] = []
    assert count_correct(model, tokenizer, validation_set, asked, told.append) == expected
    # Several passes: the bar's note moves with each.
    assert told[-1] == len(asked) > told[0]


@pytest.mark.parametrize(
    ("wanted", "reply", "right"),
    [
        (Wanted.rationale, "red, no: [[A]] ... so [[B]]", True),
        (Wanted.rationale, "so B", False),
        (Wanted.bracketed, "[[A]]", False),
    ],
)
def test_a_reply_is_its_last_marker(student_of, wanted, reply, right):
    (_, question) = questions(2)
    tokenizer = student_of("llama").tokenizer
    item = ask(question, wanted, PROMPT, tokenizer, chat=True)
    assert item.gold_token is None
    assert is_right(item, reply, PROMPT) is right


THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def test_a_question_whose_class_is_trained_to_think_is_asked_to_think(student_of, monkeypatch):
    (_, question) = questions(2)
    tokenizer = student_of("qwen2").tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", THINKS)
    item = ask(question, Wanted.rationale, PROMPT, tokenizer, chat=True, thinking=True)
    assert tokenizer.decode(item.prompt_ids).endswith("assistant\n<think>\n")
    plain = ask(question, Wanted.rationale, PROMPT, tokenizer, chat=True)
    assert tokenizer.decode(plain.prompt_ids).endswith("<think>\n\n</think>\n\n")

    def judge(reply: str) -> bool:
        return is_right(item, reply, PROMPT)

    assert judge("[[A]]? No.\n</think>\n\nSo [[B]]")
    assert not judge("[[B]]? No.\n</think>\n\nSo [[A]]")
    assert not judge("[[B]]")  # an answer in a span that is never closed is none
    assert is_right(plain, "[[B]]", PROMPT)


def test_a_bare_free_answer_is_its_first_line(student_of):
    question = Question(id="f", text="pick", gold_text="12 km")
    tokenizer = student_of("llama").tokenizer
    item = ask(question, Wanted.answer, PROMPT, tokenizer, chat=True)
    assert item.gold_token is None
    assert is_right(item, "12 km\n13 km", PROMPT)
    assert not is_right(item, "", PROMPT)
