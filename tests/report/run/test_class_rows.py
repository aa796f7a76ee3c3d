import base64
import gzip
import json
from typing import Any

import pytest

from caft.records import AnswerScore, Question
from caft.report.cells import Table
from caft.report.figures import draw_histogram
from caft.report.run.class_rows import tabulate_classes
from caft.report.run.question_rows import list_question_rows
from caft.report.tables import ReportTables
from caft.split import split_questions
from caft.split.config import EntropySplitConfig


def list_spans(table: Table) -> list[str]:
    return [row[1].text for row in table.rows]


def test_a_class_has_its_range_its_targets_and_its_share_of_mistakes(sample: Any) -> None:
    split, method = sample.summary["split"], sample.summary["method"]
    shares = sample.summary["score"]["accuracy_by_class"]
    table = tabulate_classes(split, method, shares, "answer_entropy")
    assert list_spans(table) == ["below 1.1", "1.1 to 1.75", "1.75 and above"]
    assert [[cell.text for cell in row[4:]] for row in table.rows] == [
        ["answer", "not in it"],
        ["answer", "not in it"],
        ["not in it", "rationale"],
    ]
    wrong = sum(number.value * (1 - share.value) for _, _, number, share, *_ in table.rows)
    assert wrong == pytest.approx(sample.summary["score"]["roc_auc"]["answer_entropy"]["incorrect"])


def test_cut_points_of_a_sure_model_are_told_apart(sample: Any) -> None:
    split = sample.summary["split"] | {"thresholds": [0.00021, 0.00047]}
    table = tabulate_classes(split, {"name": "", "stages": []}, {}, "answer_entropy")
    assert list_spans(table) == [
        "below 0.00021", "0.00021 to 0.00047", "0.00047 and above"
    ]  # fmt: skip
    values = [0.0001 * place for place in range(8)]
    figure = draw_histogram(values, [True] * 8, [0.00021, 0.00047], [*split["counts"]], "entropy")
    edges = [row[:2] for row in figure.rows]
    assert edges[0][0] == "0"
    assert edges[-1][1] == "0.0007"
    assert all(low != high for low, high in edges)
    assert f">{' to '.join(edges[0])}: " in figure.panels[0]


def test_cut_points_of_long_rationales_are_whole_numbers(sample: Any) -> None:
    split = sample.summary["split"] | {"thresholds": [999.5, 12_345.6]}
    table = tabulate_classes(split, {"name": "", "stages": []}, {}, "rationale_length")
    assert list_spans(table) == ["below 999.5", "999.5 to 12,346", "12,346 and above"]
    values = [240.0 * place for place in range(101)]
    figure = draw_histogram(values, [True] * 101, [999.5, 12_345.6], [*split["counts"]], "tokens")
    assert [row[:2] for row in figure.rows][-1] == ("23,000", "24,000")
    assert ">cut point 12,346" in figure.panels[0]
    assert ": 999.5 to 12,346<" in figure.panels[0]


def test_random_classes_have_no_place_on_the_axis(sample: Any) -> None:
    split = {"strategy": "random", "thresholds": [], "counts": {"easy": 2, "hard": 1}}
    table = tabulate_classes(split, {"name": "", "stages": []}, {}, "answer_entropy")
    columns = ["class", "training questions", "base accuracy"]
    assert [column.name for column in table.columns] == columns


@pytest.mark.parametrize("estimator", ["answer_entropy", "top1_margin"])
def test_a_class_has_the_range_of_its_own_questions_whichever_way_the_estimate_points(
    sample: Any, estimator: str
) -> None:
    """A question whose estimate is a cut point is in the harder class."""
    values = {f"q{place:02}": place / 20 for place in range(21)}
    scores = [
        AnswerScore(question_id=key, predicted="A", valid=True, correct=True,
                    estimates={estimator: value})
        for key, value in values.items()
    ]  # fmt: skip
    config = EntropySplitConfig(estimator=estimator, quantiles=[0.25, 0.75])
    found = split_questions(scores, (), config, 1, {})
    classes = ("easy", "middle", "hard")
    counts = {name: [*found.complexity_of.values()].count(name) for name in classes}
    part: Any = {"strategy": "entropy", "thresholds": [*found.thresholds], "counts": counts}
    tables = ReportTables(
        scores=scores,
        questions={key: Question(id=key, text="?", options=("a",), gold_index=0) for key in values},
        complexity_of=found.complexity_of,
    )
    table = tabulate_classes(part, sample.summary["method"], {}, estimator)
    falls = estimator == "top1_margin"
    assert list_spans(table) == (
        ["above 0.75", "0.75 to 0.25", "0.25 and below"]
        if falls
        else ["below 0.25", "0.25 to 0.75", "0.75 and above"]
    )
    # Sorted by their estimates, the lowest are first.
    assert [row[1].value for row in table.rows] == ([0, -1, -2] if falls else [0, 1, 2])
    assert found.complexity_of["q05"] == ("hard" if falls else "middle")
    assert found.complexity_of["q15"] == ("middle" if falls else "hard")
    # The table of questions sorts by class from easy to hard, with a split and without one.
    for given in (classes, ()):
        packed = list_question_rows(tables, None, estimator, 30, given).packed
        shown = json.loads(gzip.decompress(base64.b64decode(packed)))
        places = {row["complexity"]: row["place"] for row in shown}
        assert places == {"easy": 0, "middle": 1, "hard": 2}
