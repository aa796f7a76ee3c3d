"""Show a ledger of paid replies, copy it, check it, or give up a provider's batch.

caft ledger show LEDGER
    A line a model: replies, calls, prompt + completion tokens, what was paid,
    calls that failed, and what is in flight or in a provider's batch.

caft ledger copy FROM TO
    Each is a file or postgresql://HOST/DATABASE. What TO has already stays as
    it is; every reply is compared afterwards. Doing it again does no harm.

caft ledger check LEDGER [--drop]
    Names replies that changed after they were written; --drop removes them,
    and they are bought again.

caft ledger forget LEDGER BATCH
    Gives up a batch that its provider has lost: what it may have cost counts
    as spent, and its requests are bought again.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from caft.console import tell
from caft.subcommands import make_parser, run_command
from caft.teachers.ledger.batches import forget_batch
from caft.teachers.ledger.checking import check_rows
from caft.teachers.ledger.copying import copy_ledger, find_place
from caft.teachers.ledger.showing import show_models


def main(
    arguments: Sequence[str] | None = None, *, program: str = "python -m caft.teachers.ledger"
) -> int:
    """The command line; returns its exit status."""
    parser = make_parser(program, __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show")
    show.add_argument("ledger", metavar="LEDGER")
    copy = commands.add_parser("copy")
    copy.add_argument("source", metavar="FROM")
    copy.add_argument("target", metavar="TO")
    check = commands.add_parser("check")
    check.add_argument("ledger", metavar="LEDGER")
    check.add_argument("--drop", action="store_true")
    forget = commands.add_parser("forget")
    forget.add_argument("ledger", metavar="LEDGER")
    forget.add_argument("batch", metavar="BATCH")
    return run_command(parser, arguments, _do)


def _do(given: Namespace) -> None:
    if given.command == "show":
        tell(show_models(find_place(given.ledger)))
    elif given.command == "check":
        tell(check_rows(find_place(given.ledger), drop=given.drop))
    elif given.command == "forget":
        tell(forget_batch(find_place(given.ledger), given.batch))
    else:
        tell(copy_ledger(given.source, given.target).line())


if __name__ == "__main__":
    sys.exit(main())
