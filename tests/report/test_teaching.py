from caft.records import Question, Rationale
from caft.report.tables import ReportTables
from caft.report.teaching import describe_teaching


def rationale(number: int, refusal: str = "") -> Rationale:
    return Rationale(question_id=str(number), text="So it is B. [[B]]", answer="B",
                     agrees=not refusal, refusal=refusal, source="worked")  # fmt: skip


def test_counts_reasons_and_shows_a_few_of_each() -> None:
    rows = [rationale(k) for k in range(5)]
    rows += [rationale(k, "cut off") for k in range(5, 8)] + [rationale(8, "disagrees")]
    tables = ReportTables(rationales=rows, questions={"0": Question(id="0", text="Why?")})
    teaching = describe_teaching(tables)
    assert teaching is not None
    assert (teaching.total, teaching.accepted, teaching.sources) == (9, 5, ("worked",))
    assert teaching.reasons == (("cut off", 3), ("disagrees", 1))
    verdicts = [sample.verdict for sample in teaching.samples]
    assert verdicts == ["accepted"] * 3 + ["cut off"] * 2 + ["disagrees"]
    assert teaching.samples[0].question == "Why?"


def test_no_teacher_is_none() -> None:
    assert describe_teaching(ReportTables()) is None
