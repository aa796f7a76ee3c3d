"""The exact words a model reads. A space more or less is another experiment."""

from __future__ import annotations

import pytest

from caft.errors import UserError
from caft.records import Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import OptionIds, PromptConfig, SystemTurn
from caft.text.prompts import (
    Message,
    Prompt,
    Wanted,
    close_with_answer,
    solved_reply,
    write_prompt,
)

SUM = Question(
    id="q1",
    text="What is 2 + 2?",
    options=("three", "four"),
    gold_index=1,
    gold_text="four",
    subject="math",
    rationale="Two and two make four.",
)
CAPITAL = Question(
    id="q2", text="Capital of France?", options=("Paris", "Rome", "Oslo"), gold_index=0
)
CLOSED = Question(id="q3", text="5 - 2 =", answer_set=tuple("123456789"), gold_index=2)
FREE = Question(id="q4", text="Who wrote Emma?", gold_text="Jane Austen")
CONFIG = PromptConfig()


def chat(question: Question, config: PromptConfig = CONFIG, **more: object) -> tuple[Message, ...]:
    wanted = more.pop("wanted", Wanted.answer)
    return write_prompt(question, config, wanted, chat=True, **more).messages  # type: ignore[arg-type]


def text(question: Question, config: PromptConfig = CONFIG, **more: object) -> str:
    wanted = more.pop("wanted", Wanted.answer)
    return write_prompt(question, config, wanted, chat=False, **more).text  # type: ignore[arg-type]


def test_chat() -> None:
    assert chat(SUM) == (
        Message(
            "system",
            "You answer multiple choice questions about math. "
            "Reply with the id of the correct option and nothing else.",
        ),
        Message("user", "What is 2 + 2?\n\nA. three\nB. four"),
    )


@pytest.mark.parametrize(
    ("wanted", "prompt"),
    [
        (Wanted.answer, "Question: What is 2 + 2?\nA. three\nB. four\nAnswer:"),
        (Wanted.bracketed, "Question: What is 2 + 2?\nA. three\nB. four\nAnswer in brackets:"),
        (Wanted.rationale, "Question: What is 2 + 2?\nA. three\nB. four\nSolution:"),
    ],
)
def test_completion(wanted: Wanted, prompt: str) -> None:
    assert text(SUM, wanted=wanted) == prompt


def test_options_keep_their_order_under_either_kind_of_id() -> None:
    digits = PromptConfig(option_ids=OptionIds.digits)
    assert chat(CAPITAL)[1].content.endswith("A. Paris\nB. Rome\nC. Oslo")
    assert chat(CAPITAL, digits)[1].content.endswith("1. Paris\n2. Rome\n3. Oslo")
    assert answer_labels(CAPITAL, OptionIds.digits) == ("1", "2", "3")
    assert gold_label(SUM, OptionIds.letters) == "B"
    assert gold_label(SUM, OptionIds.digits) == "2"


def test_a_closed_answer_set_is_asked_for_but_not_shown() -> None:
    assert chat(CLOSED)[1].content == "5 - 2 ="
    assert answer_labels(CLOSED, OptionIds.letters) == tuple("123456789")
    assert gold_label(CLOSED, OptionIds.letters) == "3"


def test_free_text_has_no_labels() -> None:
    assert answer_labels(FREE, OptionIds.letters) == ()
    assert gold_label(FREE, OptionIds.letters) == "Jane Austen"
    assert chat(FREE)[1].content == "Who wrote Emma?"


def test_26_options_are_a_to_z() -> None:
    wide = Question(id="w", text="?", options=tuple(str(n) for n in range(26)), gold_index=25)
    assert gold_label(wide, OptionIds.letters) == "Z"
    assert gold_label(wide, OptionIds.digits) == "26"


def test_shots_in_chat_are_turns_before_the_question() -> None:
    assert chat(CAPITAL, shots=[SUM])[1:] == (
        Message("user", "What is 2 + 2?\n\nA. three\nB. four"),
        Message("assistant", "B"),
        Message("user", "Capital of France?\n\nA. Paris\nB. Rome\nC. Oslo"),
    )


def test_every_shot_is_a_turn_and_a_question_without_a_subject_is_about_anything() -> None:
    turns = chat(CAPITAL, shots=[CLOSED, SUM, CLOSED])
    assert [turn.content for turn in turns[2::2]] == ["3", "B", "3"]
    assert "questions about general knowledge. Reply" in turns[0].content


def test_shots_in_a_completion_have_the_space_that_the_answer_has() -> None:
    prompt = write_prompt(CAPITAL, CONFIG, Wanted.answer, chat=False, shots=[SUM])
    assert prompt.text + prompt.joiner + "A" == (
        "Question: What is 2 + 2?\nA. three\nB. four\nAnswer: B\n\n"
        "Question: Capital of France?\nA. Paris\nB. Rome\nC. Oslo\nAnswer: A"
    )


def test_shots_are_solved_in_the_form_that_is_wanted() -> None:
    assert solved_reply(SUM, CONFIG, Wanted.bracketed) == "[[B]]"
    assert solved_reply(SUM, CONFIG, Wanted.rationale) == "Two and two make four. [[B]]"
    # No rationale is ever made up: a shot without one is left out.
    assert len(chat(SUM, wanted=Wanted.rationale, shots=[CAPITAL])) == 2


def test_a_solution_that_ends_in_the_marker_is_left_as_it_is() -> None:
    assert close_with_answer(" So it is [[B]]\n", "B") == "So it is [[B]]"
    assert close_with_answer("So it is B.", "B") == "So it is B. [[B]]"


def test_braces_in_a_question_are_never_filled_in() -> None:
    tricky = Question(
        id="t",
        text="Is {options} or {subject} in f'{question}' a {name}?",
        options=("{question}", "{}"),
        gold_index=0,
        subject="{options}",
    )
    system, user = chat(tricky)
    assert user.content == (
        "Is {options} or {subject} in f'{question}' a {name}?\n\nA. {question}\nB. {}"
    )
    assert "about {options}." in system.content


def test_other_braces_of_a_wording_stay() -> None:
    config = PromptConfig(user='{"q": "{question}", "n": {1}}')
    assert chat(CLOSED, config)[1].content == '{"q": "5 - 2 =", "n": {1}}'
    # Line breaks at the ends go, and nothing else.
    assert chat(CLOSED, PromptConfig(user="\nX {question} \n"))[1].content == "X 5 - 2 = "


def test_the_instruction_can_open_the_users_first_turn() -> None:
    config = PromptConfig(system_turn=SystemTurn.in_user_turn, system_answer="Reply with an id.")
    turns = chat(CAPITAL, config, shots=[SUM])
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert turns[0].content == "Reply with an id.\n\nWhat is 2 + 2?\n\nA. three\nB. four"
    assert "Reply with" not in turns[2].content


def test_an_empty_instruction_is_no_turn() -> None:
    assert [turn.role for turn in chat(SUM, PromptConfig(system_answer=""))] == ["user"]


@pytest.mark.parametrize("wanted", list(Wanted))
@pytest.mark.parametrize("question", [SUM, CAPITAL, CLOSED, FREE], ids=lambda item: item.id)
def test_no_completion_ends_in_white_space(question: Question, wanted: Wanted) -> None:
    config = PromptConfig(
        completion_answer="{question} Answer: ",
        completion_bracketed="{question}\n{options} \n",
        completion_rationale="{question}\t",
    )
    for each in (CONFIG, config):
        prompt = write_prompt(question, each, wanted, chat=False, shots=[SUM])
        assert prompt.text == prompt.text.rstrip()
        assert prompt.joiner == " "


def test_a_chat_reply_follows_at_once() -> None:
    assert write_prompt(SUM, CONFIG, Wanted.answer, chat=True).joiner == ""
    assert Prompt(text="x").joiner == " "


def test_a_wording_without_the_question_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset.prompt.user has no \{question\}"):
        PromptConfig(user="Answer this.")
    with pytest.raises(UserError, match=r"dataset.prompt.completion_answer has no"):
        PromptConfig(completion_answer="Answer:")
    with pytest.raises(UserError, match=r"^dataset.prompt.shots is -1"):
        PromptConfig(shots=-1)
