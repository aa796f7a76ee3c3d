"""Judges predictions of other tools by the tests of a sweep's report.

In: CSV, TSV, JSONL or parquet with one row a question, arm and seed, or counts alone. Out: the
tables and the answer of a sweep's report, as text. `read` reads and refuses, `judge` compares,
`write` prints.
"""

from caft.report.predictions.judge import judge_predictions
from caft.report.predictions.read import read_predictions
from caft.report.predictions.write import write_judgement

__all__ = ["judge_predictions", "read_predictions", "write_judgement"]
