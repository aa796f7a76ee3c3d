"""Which of a student's own tries is kept: written tries with their verdicts, by hand."""

from __future__ import annotations

from caft.distill import keep_own
from caft.records import Question, Rationale, SampledReply, Target
from caft.text.config import OptionIds

QUESTION = Question(id="q", text="Capital of France?", options=("Rome", "Paris"), gold_index=1)
LONGEST = 9


def keep(*tries: tuple[str, str | None], tokens: int = 5) -> Rationale:
    rows = [
        SampledReply(
            question_id="q",
            sample=number,
            text=text,
            parsed=parsed,
            correct=parsed == "B",
            generated_tokens=tokens,
        )
        for number, (text, parsed) in enumerate(tries)
    ]
    # In which order they are stored does not matter.
    (kept,) = keep_own(
        [QUESTION],
        rows[::-1],
        option_ids=OptionIds.letters,
        forbidden=["<|im_end|>"],
        longest=LONGEST,
    )
    return kept


def test_the_first_right_one_is_kept_though_a_later_one_is_shorter() -> None:
    kept = keep(
        ("Rome. [[A]]", "A"),
        ("It is surely Paris, **[[B]]** I think", "B"),
        ("Paris. [[B]]", "B"),
    )
    assert (kept.text, kept.attempt, kept.refusal) == ("It is surely Paris, [[B]]", 1, "")
    assert (kept.target, kept.answer, kept.agrees) == (Target.own_rationale, "B", True)
    # No teacher was asked: its bill has nothing of this.
    assert (kept.prompt_tokens, kept.completion_tokens, kept.usd) == (0, 0, 0.0)


def test_a_right_answer_alone_is_not_enough() -> None:
    assert keep(("[[B]]", "B")).refusal == "bare_answer"
    assert keep(("So <|im_end|> [[B]]", "B")).refusal == "special_token"
    # Read without brackets: a student that is trained on it would not learn to end in them.
    assert keep(("The answer is B", "B")).refusal == "unparsable"
    # Inside a thinking span that the prompt had opened, as its own reading knows.
    assert keep(("Perhaps [[B]]", None)).refusal == "unparsable"


def test_without_any_the_first_try_says_why() -> None:
    kept = keep(("Rome. [[A]]", "A"), ("[[B]]", "B"))
    assert (kept.refusal, kept.attempt, kept.accepted) == ("wrong", 0, False)
    assert keep(("Let me see", None), tokens=LONGEST).refusal == "cut_off"
    assert keep(("Let me see", None), tokens=LONGEST - 1).refusal == "unparsable"
