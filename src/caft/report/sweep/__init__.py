"""The report of a whole sweep: one page and one summary.json for all of its jobs.

In: a sweep's folder, finished or not. Out: report.html, summary.json (see `schema.py`) and
predictions.parquet, which `--predictions` takes, next to the jobs' folders. A job that is not
finished is listed but not in any number. A folder without any job is a UserError.

`folder` reads and writes; everything else is pure: `job_results` and `arms` hold what is compared,
`comparisons` and `routing` compare it, `allocation` says how to spend a budget, `savings` counts
the cost, `answers` writes the other sentences, `origin` says what the jobs ran on, `summary`
combines all. `tables` are the rows that `page`, `markdown` and `wandb_report` print,
`figures` the page's drawings.
"""

from caft.report.sweep.folder import read_sweep, write_sweep_report
from caft.report.sweep.job_results import JobResult, Sweep
from caft.report.sweep.summary import analyse_sweep, list_answers, list_progress, write_head

__all__ = [
    "JobResult",
    "Sweep",
    "analyse_sweep",
    "list_answers",
    "list_progress",
    "read_sweep",
    "write_head",
    "write_sweep_report",
]
