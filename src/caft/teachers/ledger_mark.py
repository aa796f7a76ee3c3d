"""How many replies a ledger had, in a file beside it: a ledger that lost them is noticed.

An empty file is an empty database, and a missing one is made anew: without this mark, whoever
lost a ledger would pay for everything again, and not be told.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from caft.errors import UserError


def mark_of(ledger: Path) -> Path:
    """Where the mark of a ledger lies."""
    return ledger.with_name(f"{ledger.name}.count")


def read_mark(ledger: Path) -> int:
    """How many replies the ledger had at least; 0 where nobody noted it."""
    try:
        count = json.loads(mark_of(ledger).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return count if isinstance(count, int) else 0


def write_mark(ledger: Path, count: int) -> None:
    """Note that the ledger has `count` replies; only ever more of them.

    What cannot be noted costs nothing: it is a warning that may not come.
    """
    if count > read_mark(ledger):
        fresh = mark_of(ledger).with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            fresh.write_text(f"{count}\n", encoding="utf-8")
            fresh.replace(mark_of(ledger))


def refuse_lost_replies(ledger: Path, had: int, count: int) -> None:
    """UserError where a ledger with `count` replies had some and has none left.

    `had` is to be read before `count` is: another process may be writing the first replies.
    """
    if had and not count:
        state = "empty" if ledger.exists() else "missing"
        raise UserError(
            f"the teacher's ledger {ledger} is {state}, and had {had} replies: put it back from a "
            f"backup, or, to pay for them again, remove {mark_of(ledger)}"
        )
