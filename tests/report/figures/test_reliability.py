"""The calibration of answers, drawn and counted; figures and tables in a notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from caft.report.figures import draw_calibration
from caft.report.figures.notebook import show_figure, show_table
from caft.report.run.class_rows import training_scores
from caft.report.run.estimator_auc import ScoreContext, describe_scores
from caft.report.run.option_shares import pick_likeliest, share_options
from caft.report.wording import percent


def test_the_page_draws_what_the_summary_counts(finished_run: Any) -> None:
    shares = ((0.5, 0.25), (0.125, 0.75), ())  # of two options; free text has none
    scores = [
        replace(score, option_probabilities=shares[place % 3])
        for place, score in enumerate(training_scores(finished_run.tables))
    ]
    gold_of = {score.question_id: 0 for score in scores}
    context = ScoreContext(gold_of=gold_of)
    stated = describe_scores(scores, "answer_entropy", 0.95, context)["calibration"]
    assert stated["n"] > 0
    drawn = draw_calibration(*pick_likeliest(*share_options(scores, gold_of)))
    words = f"Expected calibration error {percent(stated['ece'])}, over {stated['n']} questions."
    assert drawn.note.startswith(words)


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
