from typing import Any

import pytest

from caft.report.run.class_rows import list_class_rows


def test_counts_mistakes_of_training_questions_only(sample: Any) -> None:
    split, method = sample.summary["split"], sample.summary["method"]
    rows = list_class_rows(split, method, sample.tables, 0.95)
    assert [row.span for row in rows] == ["below 1.100", "1.100 to 1.750", "1.750 and above"]
    assert [row.targets for row in rows] == [
        ("answer", "not in it"),
        ("answer", "not in it"),
        ("not in it", "rationale"),
    ]
    wrong = sum(row.questions * (1 - row.accuracy["value"]) for row in rows if row.accuracy)
    assert wrong == pytest.approx(sample.summary["score"]["roc_auc"]["answer_entropy"]["incorrect"])


def test_random_classes_have_no_place_on_the_axis(sample: Any) -> None:
    split = {"strategy": "random", "thresholds": [], "counts": {"easy": 2, "hard": 1}}
    rows = list_class_rows(split, {"name": "", "stages": []}, sample.tables, 0.95)
    assert [(row.span, row.targets) for row in rows] == [("", ()), ("", ())]
