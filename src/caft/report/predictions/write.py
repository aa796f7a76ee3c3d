"""A judgement of predictions as text: the answer, what to know, and a sweep's tables."""

from __future__ import annotations

import math
import textwrap

from caft.report.cells import Cell, Column, Table, points_cell
from caft.report.predictions.judge import UNKNOWN, Judgement
from caft.report.sweep.markdown import write_table
from caft.report.sweep.tables import tabulate_arms, tabulate_comparisons
from caft.report.wording import short_count

_WIDEST = 80
_OF_REPLIES = ("only first correct", "only second correct")


def write_judgement(found: Judgement) -> str:
    """Paragraphs of at most 80 columns, and Markdown tables, which may be wider."""
    answers = [
        f"{head.asked} {head.answer} ({head.figure}). {head.detail}" for head in found.headlines
    ]
    tests = (
        "paired tests over questions, for these seeds only" if found.paired else "unpaired tests"
    )
    note = (
        f"95% intervals over questions and seeds; p of {tests}, after Holm's correction over all "
        "pairs. MDD: minimum detectable difference (80% power), corrected likewise. Better: yes by "
        "test and interval, no if a gain of two points is ruled out."
    )
    if (judged := len(found.together)) > 1:
        note += (
            f" The {judged} verdicts, the answers above and these pairs' MDD are by intervals that "
            "hold all at once, which stand in brackets."
        )
    texts = [*answers, *(f"! {warning}" for warning in found.warnings), note]
    *head, note = (textwrap.fill(text, _WIDEST) for text in texts)
    arms, pairs = write_table(_tabulate_arms(found)), write_table(_tabulate_pairs(found))
    return "\n\n".join([*head, arms, pairs, note]) + "\n"


def _tabulate_arms(found: Judgement) -> Table:
    """With the tokens of teacher and test, as far as the predictions have them."""
    table = tabulate_arms(found.arms).select("setting", "accuracy", "seeds", "over seeds")
    tokens = [arm["tokens_a_question"] for arm in found.arms]
    bills = [arm["cost"].get("teacher_tokens", math.nan) for arm in found.arms]
    more = [
        Column(name, "number", [UNKNOWN if math.isnan(value) else show(value) for value in values])
        for name, values, show in (
            ("tokens per question", tokens, "{:.1f}".format),
            ("teacher tokens", bills, short_count),
        )
        if not all(map(math.isnan, values))
    ]
    return Table(table.label, [*table.columns, *more])


def _tabulate_pairs(found: Judgement) -> Table:
    """Every pair with its verdict, the clearest first."""
    order = sorted(range(len(found.comparisons)), key=lambda k: found.comparisons[k]["p_adjusted"])
    table = tabulate_comparisons([found.comparisons[k] for k in order])
    left_out = {"mode", *(() if found.paired else _OF_REPLIES)}
    shown = [column for column in table.columns if column.name not in left_out]
    if found.budgets:
        shown.append(Column("teacher tokens", "text", [found.budgets[k] for k in order]))
    # One pair alone has them beside its difference.
    several = len(found.together) > 1
    held = {k: points_cell(pair).aside for k, pair in found.together.items() if several}
    verdicts = [Cell(found.verdicts[k], aside=held.get(k, "")) for k in order]
    return Table(table.label, [*shown, Column("second better?", "text", verdicts)])
