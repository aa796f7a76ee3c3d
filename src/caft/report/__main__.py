"""Write the report of a sweep, or judge predictions, also of other tools.

caft report SWEEP_DIR
    Page, numbers and predictions.parquet, of the jobs that are finished.
caft report SWEEP_DIR --markdown
    Its tables, to paste somewhere.
caft report SWEEP_DIR --wandb ENTITY/PROJECT [--draft]
    A W&B report as well.
caft report --predictions PATH ...
    Tables and verdicts of all that the files, sweeps and folders hold.

Predictions are CSV, TSV, JSONL or parquet with the columns question_id, arm,
seed and correct (1 or 0), or arm, seed, correct_count and n. Both may have
teacher_tokens (the bill of the run, the same in all of its rows; then arms of
equal bills are ranked) and test_tokens (generated for that row).
"""

from __future__ import annotations

import textwrap
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from caft.console import tell
from caft.signals import say
from caft.subcommands import CommandParser, make_parser, run_command
from caft.sums import read_summary

_WIDEST = 80


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m caft.report") -> int:
    """The command line; returns the exit status and prints where the report is."""
    parser = make_parser(program, __doc__)
    parser.add_argument("folder", type=Path, metavar="SWEEP_DIR", nargs="?")
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="tables or their folders",
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="needs the extra report")
    parser.add_argument("--draft", action="store_true", help="keep the W&B report a draft")
    return run_command(parser, arguments, partial(_do, parser))


def _do(parser: CommandParser, given: Namespace) -> None:
    if given.draft and not given.wandb:
        parser.error("--draft is for a W&B report; give --wandb ENTITY/PROJECT as well")
    if (given.folder is None) is (given.predictions is None):
        parser.error("give either SWEEP_DIR or --predictions PATH")
    if given.predictions is not None and (given.wandb or given.markdown):
        parser.error("--markdown and --wandb are for SWEEP_DIR; --predictions prints its tables")
    if given.predictions is not None:
        _judge(*given.predictions)
    else:
        _write(given.folder, given.wandb, draft=given.draft, markdown=given.markdown)


def _write(folder: Path, project: str | None, *, draft: bool, markdown: bool) -> None:
    from caft.report.sweep import list_progress, write_sweep_report
    from caft.report.sweep.job_results import FINISHED, UNREADABLE

    summary = write_sweep_report(folder)
    if markdown:
        from caft.report.sweep.markdown import write_markdown

        finished = [job["folder"] for job in summary["jobs"] if job["state"] == FINISHED]
        runs: list[Any] = [read_summary(folder / name) for name in finished]
        tell(write_markdown(summary, runs), end="")
    else:
        told = summary["answers"] if summary["arms"] else []
        answers = [f"{each['asked']} {each['answer']}" for each in told]
        for text in (*list_progress(summary), *answers):
            tell(textwrap.fill(text, _WIDEST), end="\n\n")
        tell(str(folder / "report.html"))
    for job in summary["jobs"]:
        if job["state"] == UNREADABLE:
            say(f"{folder / job['folder']} is in no number: {job['error']}")
    if project is not None:
        from caft.report.sweep.wandb_report import publish_report

        tell(publish_report(folder, summary, project, draft=draft))


def _judge(*paths: Path) -> None:
    from caft.report.predictions import judge_predictions, read_predictions, write_judgement

    tell(write_judgement(judge_predictions(read_predictions(*paths))), end="")


if __name__ == "__main__":
    raise SystemExit(main())
