from dataclasses import replace

import pytest

from caft.records import Mode, Prediction
from caft.report.comparison import compare_classes, compare_models
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


def class_tables(gains: dict[tuple[Mode, str], tuple[int, int]], each: int = 40) -> ReportTables:
    """In every mode and class `each` questions; base and tuned are right on the first ones."""
    classes = ("easy", "hard")
    ids = {name: [f"{name}{number}" for number in range(each)] for name in classes}
    predictions: dict[tuple[str, Mode], list[Prediction]] = {}
    for (mode, name), counts in gains.items():
        for model, right in zip(("base", "tuned"), counts, strict=True):
            rows = [reply(key, place < right) for place, key in enumerate(ids[name])]
            predictions.setdefault((model, mode), []).extend(rows)
    placed = {key: name for name, keys in ids.items() for key in keys}
    return ReportTables(predictions=predictions, complexity_of=placed)


def test_classes_are_paired_within_each_mode_and_corrected_together() -> None:
    tables = class_tables({
        (Mode.answer, "easy"): (36, 6),
        (Mode.answer, "hard"): (4, 5),
        (Mode.rationale, "easy"): (0, 20),
        (Mode.rationale, "hard"): (20, 15),
    })  # fmt: skip
    found = compare_classes(tables, ["easy", "middle", "hard"])
    assert [(part["mode"], part["complexity"], part["n"]) for part in found] == [
        ("answer", "easy", 40), ("answer", "hard", 40),
        ("rationale", "easy", 40), ("rationale", "hard", 40),
    ]  # fmt: skip
    lost = found[0]
    assert lost["value"] == pytest.approx(-30 / 40)
    assert lost["high"] < -0.5
    # 30 questions, all lost: 2 / 2^30, the smallest of four.
    assert lost["p_value"] == pytest.approx(2 / 2**30)
    assert lost["p_adjusted"] == pytest.approx(4 * 2 / 2**30)
    # 5 lost of 5: 2 / 2^5 alone is not significant, nor twice it.
    assert found[3]["p_value"] == pytest.approx(1 / 16)
    assert found[3]["p_adjusted"] == pytest.approx(2 / 16)


def test_a_mode_that_one_model_alone_was_asked_in_has_no_comparison() -> None:
    tables = class_tables({(Mode.answer, "easy"): (30, 10)})
    tables = replace(
        tables, predictions={("tuned", Mode.answer): tables.predictions["tuned", Mode.answer]}
    )
    assert compare_classes(tables, ["easy"]) == []
