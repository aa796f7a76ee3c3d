"""A run's folder read back: the numbers are those that went in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.pipeline.rows import prediction_rows, score_rows
from caft.records import AnswerScore, Mode, Prediction, Question
from caft.report.figures import draw_calibration
from caft.report.figures.notebook import show_figure, show_table
from caft.report.run.class_rows import training_scores
from caft.report.run.estimator_auc import ScoreContext, describe_scores
from caft.report.run.finished import read_run
from caft.report.run.option_shares import pick_likeliest, share_options
from caft.report.tables import ReportTables
from caft.report.wording import percent
from caft.store import read_rows, write_rows
from caft.text.config import OptionIds


def with_probabilities(scores: Sequence[AnswerScore]) -> list[AnswerScore]:
    """Of two options; free text has none."""
    shares = ((0.5, 0.25), (0.125, 0.75), ())
    return [
        replace(score, option_probabilities=shares[place % 3]) for place, score in enumerate(scores)
    ]


@pytest.fixture
def folder(finished_run: Any, tmp_path: Path) -> Path:
    import json

    tables = finished_run.tables
    (tmp_path / "summary.json").write_text(json.dumps(finished_run.summary))
    rows = score_rows(with_probabilities(tables.scores), tables)
    write_rows(tmp_path / "scores.parquet", rows)
    write_rows(tmp_path / "predictions.parquet", prediction_rows(tables))
    return tmp_path


def test_a_run_reads_back_as_it_was(folder: Path, finished_run: Any) -> None:
    run = read_run(folder)
    assert run.estimator == "answer_entropy"
    assert run.tables.scores == with_probabilities(finished_run.tables.scores)
    assert run.tables.complexity_of == finished_run.tables.complexity_of
    key = ("tuned", Mode.routed)
    assert run.tables.predictions[key] == finished_run.tables.predictions[key]
    asked = finished_run.tables.questions["test-0007"]
    read = run.tables.questions["test-0007"]
    assert (read.text, read.subject) == (asked.text, asked.subject)
    assert read.gold_text == asked.answer_set[asked.gold_index]


def test_a_run_of_an_earlier_version_reads_back_without_its_questions(
    folder: Path, finished_run: Any
) -> None:
    new = ("question", "options", "gold", "subject")
    rows = [{name: row[name] for name in row if name not in new}
            for row in read_rows(folder / "predictions.parquet")]  # fmt: skip
    write_rows(folder / "predictions.parquet", rows)
    run = read_run(folder)
    assert run.tables.predictions == finished_run.tables.predictions
    assert run.tables.questions["test-0007"].text == ""


def test_gold_is_written_as_the_answer_that_was_read() -> None:
    question = Question(id="q", text="Which?", options=("one", "two"), gold_index=1, subject="law")
    reply = Prediction(question_id="q", text="[[2]]", parsed="2", correct=True, generated_tokens=3)
    tables = ReportTables(
        questions={"q": question}, complexity_of={"q": "hard"},
        predictions={("base", Mode.answer): [reply]}, option_ids=OptionIds.digits,
    )  # fmt: skip
    (row,) = prediction_rows(tables)
    assert row["gold"] == row["parsed"] == "2"
    assert (row["question"], row["options"], row["subject"]) == ("Which?", ["one", "two"], "law")


def test_scores_that_were_read_back_are_described_as_before(
    folder: Path, finished_run: Any
) -> None:
    before = with_probabilities(training_scores(finished_run.tables))
    gold_of = {score.question_id: 0 for score in before}
    context = ScoreContext(gold_of=gold_of)
    described = describe_scores(
        training_scores(read_run(folder).tables), "answer_entropy", 0.95, context
    )
    assert described == describe_scores(before, "answer_entropy", 0.95, context)
    stated = described["calibration"]
    assert stated["n"] > 0
    # The page draws what the summary counts.
    drawn = draw_calibration(*pick_likeliest(*share_options(before, gold_of)))
    words = f"Expected calibration error {percent(stated['ece'])}, over {stated['n']} questions."
    assert drawn.note.startswith(words)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run with scores"):
        read_run(tmp_path)


def test_calibration_bins_by_hand_and_a_notebook_shows_them() -> None:
    figure = draw_calibration([0.05, 0.15, 0.15, 1.0], [False, True, False, True])
    assert [row[0] for row in figure.rows] == ["5.0%", "15.0%", "100.0%"]
    assert [row[2] for row in figure.rows] == ["1", "2", "1"]
    assert figure.rows[1][1].startswith("50.0% (")
    # Distances 0.05, 0.35 and 0 with weights 1, 2 and 1 of 4.
    assert "Expected calibration error 18.8%" in figure.note
    # Wilson's of one right answer of two, as known from any table.
    assert figure.rows[1][1] == "50.0% (9.5 to 90.5)"
    wide = draw_calibration([0.05, 0.15, 0.15, 1.0], [False, True, False, True], 0.8)
    assert wide.rows[1][1] == "50.0% (16.4 to 83.6)"
    html = show_figure(figure)._repr_html_()
    assert "<svg" in html
    assert "<table>" in html


def test_a_table_in_a_notebook_is_escaped() -> None:
    html = show_table([{"a<b": "<script>", "n": 0.123456}])._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<td>0.1235</td>" in html
