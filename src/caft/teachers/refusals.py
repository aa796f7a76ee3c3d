"""Why replies were refused, counted, and what helps against each reason. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from caft.records import Rationale
from caft.teachers.finish import Finish, read_finish

WRONG, OVER_BUDGET = "wrong", "over_budget"
_KEEP_ALL = "teacher.keep=all trains on them all the same, marked"
_LONGER = "give a larger teacher.max_tokens"
_UNFIT = "read one in rationales.parquet, and take another teacher.model or dataset.prompt wording"
_ELSE = "read one in rationales.parquet; teacher.keep=all helps where only the answer is wrong"
_ADVICE = {
    WRONG: f"teacher.attempts=2 asks again; {_KEEP_ALL}",
    "unparsable": f"they name no [[answer]]; {_KEEP_ALL}",
    "cut_off": _LONGER,
    "unfinished_thinking": _LONGER,
    "empty": f"where the model thinks first, {_LONGER}; else look at the server's log",
    "too_large": "give a smaller teacher.max_tokens",
    "control_characters": _UNFIT,
    "special_token": _UNFIT,
    "repeated_loop": _UNFIT,
    "no_reply": "mend what the server complains about, and run the same command again",
}
_DECLINED = "a filter or the model declines: take another teacher.model or endpoint"
_NOT_OURS = "the model wants a tool: take what offers it tools out of teacher.extra"
_UNKNOWN = "where that is how this server says that a reply is finished, give teacher.keep=all"


def name_reason(row: Rationale) -> str:
    """Why it was refused in few words, with the server's own where it did not finish.

    Empty for an accepted one.
    """
    kind = row.refusal.partition(":")[0]
    return f"{kind}: {row.finish_reason}" if kind == "not_finished" else kind


def count_reasons(rows: Iterable[Rationale]) -> dict[str, int]:
    """How many were refused for each reason, commonest first."""
    return dict(Counter(name_reason(row) for row in rows if not row.accepted).most_common())


def list_reasons(counts: Mapping[str, int]) -> str:
    """Such as "6 cut_off, 4 wrong"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def advise(reason: str) -> str:
    """What helps against a reason as `name_reason` gives it."""
    kind, _, finish = reason.partition(": ")
    if kind != "not_finished":
        return _ADVICE.get(kind, _ELSE)
    meaning = read_finish(finish)
    return {Finish.withheld: _DECLINED, Finish.called: _NOT_OURS}.get(meaning, _UNKNOWN)
