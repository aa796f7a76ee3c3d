"""Which of a student's own tries is kept: written tries with their verdicts, by hand."""

from __future__ import annotations

from random import Random

import pytest

from caft.distill import keep_own
from caft.distill.chance import Chance, at_least, measure_chance
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
    (kept,), chance = keep_own(
        [QUESTION],
        rows[::-1],
        option_ids=OptionIds.letters,
        forbidden=["<|im_end|>"],
        longest=LONGEST,
    )
    # Nothing to compare with: every right one counts.
    assert (chance.rate, chance.needed) == (0.0, 1)
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


def draw(
    answers: dict[str, str], golds: dict[str, str]
) -> tuple[list[Question], list[SampledReply]]:
    """Questions with these gold answers, and tries that answer so, one a letter."""
    questions = [Question(id=name, text="?", gold_text=gold) for name, gold in golds.items()]
    tries = [
        SampledReply(
            question_id=name,
            sample=number,
            text=f"So [[{answer}]]",
            parsed=None if answer == "-" else answer,
            correct=answer == golds[name],
            generated_tokens=5,
        )
        for name, given in answers.items()
        for number, answer in enumerate(given)
    ]
    return questions, tries


def chance_of(answers: dict[str, str], golds: dict[str, str]) -> Chance:
    return measure_chance(*draw(answers, golds), OptionIds.letters)


def test_chance_is_the_agreement_with_other_questions_by_hand() -> None:
    golds = {"p": "1", "q": "2", "r": "2"}
    # p: 1 agrees with neither other gold, 2 with both; q: 1 with p's; r: 2 with q's.
    chance = chance_of({"p": "12", "q": "1-", "r": "2-"}, golds)
    assert chance.rate == pytest.approx((2 + 1 + 1) / (6 * 2))
    assert chance.tries == 2
    # A student that always says the commonest answer owes nothing to the questions.
    assert chance_of(dict.fromkeys("pqr", "22"), dict.fromkeys("pqr", "2")).rate == 1.0


@pytest.mark.parametrize(
    ("rate", "tries", "needed"),
    [
        # Free text: one right try says enough, as in STaR. Below: 1 - 0.97^8 = 0.216 and 0.022.
        (0.005, 8, 1),
        (0.03, 8, 2),
        # Four options: 5 of 8 or more have 0.027, 4 or more 0.114.
        (0.25, 8, 5),
        # Even two of two have 0.0625; three of three 0.0156.
        (0.25, 2, 3),
    ],
)
def test_the_right_tries_that_a_question_needs(rate: float, tries: int, needed: int) -> None:
    # Every question has the gold "1" and answers it in `rate` of the tries.
    names = [f"q{n}" for n in range(400)]
    whole = ["1"] * round(rate * 400 * tries) + ["-"] * 400 * tries
    answers = {name: "".join(whole[n::400][:tries]) for n, name in enumerate(names)}
    chance = chance_of(answers, dict.fromkeys(names, "1"))
    assert (chance.rate, chance.tries) == (pytest.approx(rate), tries)
    assert chance.needed == needed
    assert chance.fewest_tries == (3 if rate == 0.25 else 1)


def test_guesses_are_left_out_and_solved_questions_are_kept() -> None:
    random = Random(5)
    golds = {f"q{n}": str(random.randrange(10)) for n in range(400)}

    def answer(name: str, solved: float) -> str:
        # A quarter of the chains names no answer; the others guess, or solve.
        guess = [random.choice("0123456789"), "-"][random.random() < 0.25]
        return golds[name] if random.random() < solved else guess

    def kept_by(solved: float) -> tuple[int, Chance, int]:
        answers = {name: "".join(answer(name, solved) for _ in range(8)) for name in golds}
        rows, chance = keep_own(
            *draw(answers, golds), option_ids=OptionIds.letters, longest=LONGEST
        )
        any_right = sum(golds[name] in given for name, given in answers.items())
        return sum(row.accepted for row in rows), chance, any_right

    kept, chance, any_right = kept_by(solved=0.0)
    # Guesses are right in 7.5% of the tries: 3 of 8 are needed, which 2% of the questions reach
    # (8 of 400, standard deviation 2.8), where 46% have some right one.
    assert chance.rate == pytest.approx(0.075, abs=0.01)
    assert (chance.needed, any_right > 150) == (3, True)
    assert kept <= 8 + 3 * 2.8
    assert at_least(kept, 400, chance.kept_share) > 0.05
    # Where half of the tries are solved, 3 of 8 are reached by 90%.
    kept, chance, _ = kept_by(solved=0.5)
    assert kept > 0.8 * 400
    assert at_least(kept, 400, chance.kept_share) < 1e-6


def test_a_question_with_one_lucky_try_says_so() -> None:
    golds = {"p": "1", "q": "1", "r": "2"}
    questions, tries = draw({"p": "1x", "q": "11", "r": "xx"}, golds)
    rows, chance = keep_own(questions, tries, option_ids=OptionIds.letters, longest=LONGEST)
    # Three right answers agree with the other's gold as well: 3 of 12 comparisons.
    assert (chance.rate, chance.needed) == (0.25, 3)
    assert [row.refusal.partition(":")[0] for row in rows] == ["by_chance", "by_chance", "wrong"]
