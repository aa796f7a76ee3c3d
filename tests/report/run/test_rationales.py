from typing import Any

import pytest

from caft.records import Question, Rationale
from caft.report.run.caveats import find_warnings
from caft.report.run.rationales import describe_teaching
from caft.report.tables import ReportTables


def rationale(number: int, refusal: str = "") -> Rationale:
    return Rationale(question_id=str(number), text="So it is B. [[B]]", answer="B",
                     agrees=not refusal, refusal=refusal, source="worked")  # fmt: skip


def test_counts_reasons_and_shows_some_of_each() -> None:
    rows = [rationale(k) for k in range(5)]
    rows += [rationale(k, "cut off") for k in range(5, 8)] + [rationale(8, "disagrees")]
    tables = ReportTables(questions={"0": Question(id="0", text="Why?")})
    teaching = describe_teaching(rows, tables)
    assert teaching is not None
    assert (teaching.total, teaching.accepted, teaching.sources) == (9, 5, ("worked",))
    assert teaching.reasons == (("cut off", 3), ("disagrees", 1))
    refusals = [row.refusal for _, row in teaching.samples]
    assert refusals == [""] * 5 + ["cut off", "disagrees", "cut off", "cut off"]
    assert [question for question, _ in teaching.samples[:2]] == ["Why?", "1"]


def test_ten_of_each_from_the_whole_run_and_no_reason_hides_another() -> None:
    rows = [rationale(k) for k in range(40)]
    rows += [rationale(k, "wrong") for k in range(100, 200)] + [rationale(200, "empty")]
    questions = {str(k): Question(id=str(k), text=str(k)) for k in range(201)}
    teaching = describe_teaching(rows, ReportTables(questions=questions))
    assert teaching is not None
    accepted = [question for question, row in teaching.samples if row.accepted]
    assert accepted == [str(4 * k) for k in range(10)]
    refused = [row.refusal for _, row in teaching.samples if not row.accepted]
    assert refused == ["wrong", "empty"] + ["wrong"] * 8


def test_classes_shrink_by_the_questions_that_no_attempt_answered() -> None:
    # 1: refused, then accepted; 2: refused twice; 3: accepted; 4 and 5: the middle class.
    rows = [rationale(1, "wrong"), rationale(1), rationale(2, "wrong"), rationale(2, "empty"),
            rationale(3), rationale(4), rationale(5, "cut_off")]  # fmt: skip
    placed = {str(k): "hard" if k < 4 else "middle" for k in range(1, 6)} | {"6": "easy"}
    teaching = describe_teaching(
        rows, ReportTables(complexity_of=placed), ("easy", "middle", "hard")
    )
    assert teaching is not None
    assert teaching.changes == (("middle", 2, 1), ("hard", 3, 2))


def test_no_teacher_is_none() -> None:
    assert describe_teaching((), ReportTables()) is None


@pytest.mark.parametrize(("kept", "p", "warned"), [(2, 0.26, True), (9, 1e-7, False)])
def test_own_rationales_that_may_be_chance_are_warned_of(
    sample: Any, kept: int, p: float, warned: bool
) -> None:
    sample.summary["cost"]["own_rationales"] = {
        "questions": 24, "kept": kept, "kept_by_chance": 1.0, "p": p, "right_tries": 11,
        "right_tries_by_chance": 9.6, "tries": 8, "needed": 2,
    }  # fmt: skip
    told = [each for each in find_warnings(sample.summary) if "more than chance" in each]
    assert bool(told) is warned
    if told:
        assert "(p = 0.260): 11 tries are right, and about 9.6 would be if" in told[0]
        assert (
            "from 2 right tries of 8 on: 2 of 24 are, and chance alone would keep about 1.0"
            in (told[0])
        )
