"""Replies without a readable answer: why, and what they say instead. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup

from caft.records import Prediction, Unread
from caft.report.cells import Column, Table, count_cell
from caft.report.comparison import results_by_mode
from caft.report.parts import UnreadPart
from caft.report.schema import MODELS, Accuracy, AccuracyPart
from caft.report.wording import clip

_REASONS: tuple[Literal["no_marker", "outside", "cut"], ...] = ("no_marker", "outside", "cut")
_MOST_SAID = 10
_LONGEST_SAID = 40
_SHOWN = 3


def count_unread(predictions: Sequence[Prediction]) -> UnreadPart | None:
    """They by reason; None if there are none whose reason is known."""
    unread = [item for item in predictions if item.unread]
    if not unread:
        return None
    reasons = Counter(item.unread for item in unread)
    outside = [item.marked or "" for item in unread if item.unread is Unread.outside]
    said = Counter(clip(_clean(text), _LONGEST_SAID) for text in outside)
    return {
        "no_marker": reasons[Unread.no_marker],
        "outside": reasons[Unread.outside],
        "cut": reasons[Unread.cut],
        "said": dict(said.most_common(_MOST_SAID)),
    }


def _clean(text: str) -> str:
    """What models write may turn a line around, or command a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def tabulate_unread(accuracy: AccuracyPart | None) -> Table:
    """Every model and mode that has any; what they say is isolated, whatever its direction."""
    rows = [
        (f"{model}, {mode}", result["unread"])
        for model in MODELS
        for mode, result in results_by_mode(accuracy, model).items()
        if "unread" in result
    ]
    said = [
        Markup(", ").join(Markup("<bdi>“{}”</bdi> {:,}").format(*item)
                          for item in part["said"].items())
        for _, part in rows
    ]  # fmt: skip
    return Table("Replies without a readable answer", [
        Column("model and mode", "head", [name for name, _ in rows]),
        *(Column(Unread[key].value, "number", [count_cell(part[key]) for _, part in rows])
          for key in _REASONS),
        *([Column("said outside", "text", said)] if any(said) else []),
    ], "Replies without a readable answer, by reason")  # fmt: skip


def describe_unread(result: Accuracy) -> str:
    """Such as "29 outside the allowed answers (“0” 20, “13” 9), 2 cut at the limit".

    Empty if there are none. Results of earlier versions do not tell the reasons.
    """
    unread = result.get("unread")
    if unread is None:
        return f"{result['unparsable']:,} for unknown reasons" if result["unparsable"] else ""
    counts = (
        (unread["outside"], Unread.outside.value + _quote(unread)),
        (unread["cut"], Unread.cut.value),
        (unread["no_marker"], Unread.no_marker.value),
    )
    return ", ".join(f"{count:,} {reason}" for count, reason in counts if count)


def _quote(unread: UnreadPart) -> str:
    said = [f"“{text}” {count:,}" for text, count in unread["said"].items()]
    more = ["..."] if len(said) > _SHOWN else []
    return f" ({', '.join(said[:_SHOWN] + more)})"
