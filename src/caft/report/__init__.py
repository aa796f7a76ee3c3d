"""Room `report`: what a person gets to read.

In: a run's summary (schema 1, see `schema.py`) and the rows behind it (`ReportTables`).
Out: one self-contained HTML page as text, and one screen in the terminal. Nothing here reads or
writes a file but its own templates. What can go wrong: a summary without the keys of the schema
is our own fault; parts that a run did not reach are None and simply do not appear.
"""

from caft.report.comparison import compare_models
from caft.report.config import ReportConfig
from caft.report.html import render_report
from caft.report.schema import SCHEMA, Summary, check_summary
from caft.report.tables import ReportTables
from caft.report.terminal import print_summary

__all__ = [
    "SCHEMA",
    "ReportConfig",
    "ReportTables",
    "Summary",
    "check_summary",
    "compare_models",
    "print_summary",
    "render_report",
]
