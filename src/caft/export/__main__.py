"""Write the training rows of a finished run, and a ready config, for another tool.

caft export RUN --to trl|axolotl|llama_factory|ms_swift|messages [--out DIR]

RUN is the folder of a run, or of one job of a sweep; until=distill is enough.
Each tuning stage is a file of rows with their class, target, teacher, token
counts and origin; export.json counts them. No model is loaded. DIR is
RUN/export-TOOL by default, and is never written over.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from caft.console import quiet_libraries, tell
from caft.errors import UserError, count_of, did_you_mean
from caft.subcommands import make_parser, run_command

if TYPE_CHECKING:
    from caft.export.tools import Tool
    from caft.export.write import Exported


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m caft.export") -> int:
    """The command line; returns the exit status and prints what was written, and how to go on."""
    parser = make_parser(program, __doc__)
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--to", required=True, metavar="TOOL", help="trl, axolotl, ...: see above")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where; default: RUN/export-TOOL")
    return run_command(parser, arguments, _do)


def _do(given: Namespace) -> None:
    with quiet_libraries(), _without_warnings():
        _export(given.folder, given.to, given.out)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The run has logged them already."""
    log = logging.getLogger("caft")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _export(folder: Path, name: str, out: Path | None) -> None:
    from caft.export.tools import TOOLS

    if name not in TOOLS:
        near = did_you_mean(name, TOOLS)
        raise UserError(f"--to is {name}; give one of {', '.join(TOOLS)}{near}")
    from caft.export.configs import list_differences
    from caft.export.finished_run import open_run
    from caft.export.write import refuse_filled, write_export

    out = (out or folder / f"export-{name}").absolute()
    if folder.is_dir():
        refuse_filled(out)
    run = open_run(folder)
    tool, config = TOOLS[name], run.config
    parts = write_export(run, name, tool, out)
    differences = list_differences(name, config.method, config.tuning) if tool.command else ()
    for line in describe_export(parts, name, tool, out, differences):
        tell(line)


def describe_export(
    parts: Sequence[Exported], name: str, tool: Tool, out: Path, differences: Iterable[str]
) -> Iterator[str]:
    """The lines about each stage, the `differences` of its training, and the command to run."""
    for part in parts:
        classes = ", ".join(f"{count:,} {name}" for name, count in part.by_class.items())
        yield (
            f"{part.file}: {count_of(part.rows, 'row')} ({classes}), "
            f"{part.prompt_tokens:,} prompt and "
            f"{count_of(part.completion_tokens, 'completion token')}"
        )
        if part.other_tokens:
            yield (
                f"  other tokens in {name} than in the run: {count_of(part.other_tokens, 'row')}; "
                "axolotl gets the very tokens"
            )
        if part.weighed:
            rows = count_of(part.weighed, "row")
            yield f"  {name} does not read the weight in the loss that the run gave to {rows}"
        if part.draws:
            drawn = ", ".join(f"{count:,} {name}" for name, count in part.draws.items())
            yield f"  an epoch of the run drew {drawn}; {name} trains all of the rows every epoch"
    yield from differences
    teachers = sorted({teacher for part in parts for teacher in part.by_teacher})
    if teachers:
        yield f"rationales are from {', '.join(teachers)}: the terms of their source apply"
    commands = dict.fromkeys(
        tool.command.format(stage=part.file.removesuffix(".jsonl")) for part in parts
    )
    how = " && ".join(filter(None, commands))
    yield f"{out}" + (f"; there: {how}" if how else "")


if __name__ == "__main__":
    raise SystemExit(main())
