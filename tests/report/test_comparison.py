import pytest

from caft.records import Mode, Prediction
from caft.report.comparison import compare_models
from caft.report.tables import ReportTables


def reply(question: str, correct: bool) -> Prediction:
    return Prediction(
        question_id=question, text="", parsed=None, correct=correct, generated_tokens=1
    )


def test_pairs_by_question_and_not_by_position() -> None:
    tables = ReportTables(
        predictions={
            ("base", Mode.answer): [reply("a", True), reply("b", False), reply("c", False)],
            ("tuned", Mode.routed): [reply("c", True), reply("b", True), reply("a", True)],
        }
    )
    found = compare_models(tables, Mode.answer, Mode.routed)
    assert found is not None
    assert (found["n"], found["only_base"], found["only_tuned"]) == (3, 0, 2)
    assert found["value"] == pytest.approx(2 / 3)
    assert found["p_value"] == 0.5
    assert found["low"] <= found["value"] <= found["high"]


def test_nothing_to_compare_is_none() -> None:
    assert compare_models(ReportTables(), Mode.answer, Mode.answer) is None
