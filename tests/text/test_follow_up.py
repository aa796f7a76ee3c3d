"""What a model is asked about its own answer, and what its reply is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caft.records import Question
from caft.text.config import PromptConfig
from caft.text.follow_up import (
    FOLLOW_UPS,
    follow_up_questions,
    follow_up_shots,
    read_follow_up,
)
from caft.text.prompts import Wanted, write_prompt

PROMPT = PromptConfig(completion_answer="{question} =", shot_separator="\n")
LISTED = Question(id="l", text="Capital of Peru?", options=("Quito", "Lima"), gold_index=1)
CLOSED = Question(id="c", text="3 + 4", answer_set=tuple("56789"), gold_index=2)
FREE = Question(id="f", text="Who wrote Emma?", gold_text="Jane Austen")


def test_the_worth_of_a_reply_by_hand() -> None:
    # Only the labels count: 0.3 of 0.4 is on True.
    assert read_follow_up("p_true", [0.3, 0.1]) == pytest.approx(0.75)
    digits = [0.0] * 10
    digits[9], digits[3] = 0.1, 0.3
    assert read_follow_up("verbalized", digits) == pytest.approx((0.1 * 9 + 0.3 * 3) / 0.4 / 9)
    assert [read_follow_up("verbalized", [float(d == k) for d in range(10)]) for k in (0, 9)] == [
        0.0, 1.0,
    ]  # fmt: skip
    assert read_follow_up("p_true", [0.0, 0.0]) is None


def test_a_base_model_reads_its_own_answer_behind_solved_examples() -> None:
    (asked,) = follow_up_questions("p_true", [LISTED], {"l": "A"}, PROMPT)
    shots = follow_up_shots("p_true", [CLOSED, LISTED], PROMPT)
    prompt = write_prompt(
        asked, FOLLOW_UPS["p_true"].word(PROMPT), Wanted.answer, chat=False, shots=shots
    )
    tail = "Is the proposed answer true or false?\nA. True\nB. False\nThe proposed answer is:"
    assert prompt.text == (
        f"Question: 3 + 4\nProposed answer: 7\n{tail} A\n\n"
        # The wrong one is the next option after the gold one, around the end.
        f"Question: Capital of Peru?\nChoices:\n- Quito\n- Lima\nProposed answer: Quito\n{tail} B\n"
        f"\nQuestion: Capital of Peru?\nChoices:\n- Quito\n- Lima\nProposed answer: Quito\n{tail}"
    )


def test_nobody_knows_how_sure_a_shot_should_be() -> None:
    assert follow_up_shots("verbalized", [CLOSED, LISTED], PROMPT) == []
    (asked,) = follow_up_questions("verbalized", [CLOSED], {"c": "8"}, PROMPT)
    worded = FOLLOW_UPS["verbalized"].word(PROMPT)
    turns = write_prompt(asked, worded, Wanted.answer, chat=True).turns
    assert "general knowledge" in turns[0][1]
    assert turns[1][1].startswith("Question: 3 + 4\nProposed answer: 8\nHow likely")


def test_in_free_text_the_wrong_answer_is_another_shots() -> None:
    other = Question(id="g", text="Who wrote Ulysses?", gold_text="James Joyce")
    first, second = follow_up_shots("p_true", [FREE, other], PROMPT)
    assert "Proposed answer: Jane Austen" in first.text
    assert (first.gold_index, second.gold_index) == (0, 1)
    assert "Proposed answer: Jane Austen" in second.text
    # Two shots with one answer: there is no wrong one to show.
    assert len(follow_up_shots("p_true", [FREE, FREE], PROMPT)) == 1


def test_an_answer_that_is_not_allowed_stands_as_it_was_written() -> None:
    asked = follow_up_questions("p_true", [LISTED, FREE], {"l": "The", "f": ""}, PROMPT)
    assert "Proposed answer: The\n" in asked[0].text
    assert "Proposed answer: (none)\n" in asked[1].text


def test_a_follow_up_is_a_question_of_its_own() -> None:
    solved = replace(CLOSED, gold_text="7", rationale="Three and four.", subject="sums")
    (asked,) = follow_up_questions("p_true", [solved], {"c": "8"}, PROMPT)
    assert (asked.options, asked.answer_set) == (("True", "False"), ())
    assert (asked.gold_index, asked.gold_text, asked.rationale) == (None, "", None)
    (asked,) = follow_up_questions("verbalized", [LISTED], {"l": "A"}, PROMPT)
    assert (asked.options, asked.answer_set) == ((), tuple("0123456789"))
    # Nor do the dataset's own wordings reach it.
    own = PromptConfig(system_answer="Pick one.", user="Q: {question}")
    worded = FOLLOW_UPS["p_true"].word(own)
    system, user = write_prompt(asked, worded, Wanted.answer, chat=True).turns
    assert system[1].startswith("You are shown a question about general knowledge and a proposed")
    assert user[1].startswith("Question: Capital")


def test_right_and_wrong_shots_take_turns() -> None:
    third = Question(
        id="t", text="Capital of Chad?", options=("Bonn", "Oslo", "Riga"), gold_index=0
    )
    shots = follow_up_shots("p_true", [LISTED, third, LISTED, third], PROMPT)
    assert [shot.gold_index for shot in shots] == [0, 1, 0, 1]
    shown = [shot.text.split("Proposed answer: ")[1].split("\n")[0] for shot in shots]
    assert shown == ["Lima", "Oslo", "Lima", "Oslo"]
    # One option alone leaves no wrong answer to show.
    alone = replace(third, options=("Riga",))
    assert len(follow_up_shots("p_true", [LISTED, alone], PROMPT)) == 1
