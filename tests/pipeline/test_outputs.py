"""What a run leaves in a folder where another one ended early, and where other files lie."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from small_runs import score_in_order

from caft.pipeline.outputs import write_outputs
from caft.pipeline.results import RunResults
from caft.pipeline.rows import prediction_rows
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Prediction, Question
from caft.report.tables import ReportTables
from caft.sums import SUMS, find_changed
from caft.text.config import OptionIds
from caft.trainers.csv_logger import CsvRunLogger

OF_ANOTHER_CONFIG = (
    "predictions.parquet",
    "forgetting.parquet",
    "rationales.parquet",
    "own_rationales.parquet",
    "report.html",
)


def test_tables_of_an_earlier_config_are_set_aside_and_files_of_the_users_stay(
    open_small: Callable[..., Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_small("until=score", "report.html=false")
    folder = workspace.context.folder
    (folder / "adapter").mkdir(parents=True)
    for name in (*OF_ANOTHER_CONFIG, "mine.parquet"):
        (folder / name).write_bytes(b"made before")
    results = RunResults(scored=score_in_order(workspace.every_question))
    write_outputs(workspace, results, CsvRunLogger(folder), started=datetime.now(UTC))
    left = {path.name for path in folder.iterdir()}
    aside = {f"{name}.before" for name in OF_ANOTHER_CONFIG}
    assert left == {"scores.parquet", "summary.json", SUMS, "mine.parquet", "adapter"} | aside
    assert (folder / "rationales.parquet.before").read_bytes() == b"made before"
    assert f"{folder / 'adapter'} is not of this run" in caplog.text
    (folder / "mine.parquet").write_bytes(b"changed since")
    assert find_changed(folder) is None


def test_a_run_that_goes_on_replaces_its_own_page(open_small: Callable[..., Workspace]) -> None:
    workspace = open_small("until=score")
    folder = workspace.context.folder
    folder.mkdir(parents=True)
    (folder / "report.html").write_bytes(b"made before")
    results = RunResults(scored=score_in_order(workspace.every_question))
    for _ in range(2):
        write_outputs(workspace, results, CsvRunLogger(folder), started=datetime.now(UTC))
    (aside,) = folder.glob("*.before*")
    assert (aside.name, aside.read_bytes()) == ("report.html.before", b"made before")


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
