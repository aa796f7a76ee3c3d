"""Figures of totals: accuracy by class, and tokens by purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.report.charts import Row
from caft.report.figures.figure import Figure
from caft.report.schema import MODELS, MODES
from caft.report.wording import percent_between

TOKEN_COSTS = (
    ("teacher_prompt_tokens", "Teacher: tokens read"),
    ("teacher_completion_tokens", "Teacher: tokens written"),
    ("unique_rationale_tokens", "Rationales accepted, each once"),
    ("trained_response_tokens", "Trained responses, all epochs"),
    ("trained_total_tokens", "Trained responses with prompts"),
    ("evaluation_generated_tokens", "Generated in evaluation"),
)


def draw_accuracy(accuracy: Row, classes: Sequence[str]) -> Figure:
    """One panel a mode: base and tuned accuracy with whiskers, over all and by class.

    `accuracy` is that of the summary.
    """
    from caft.report.charts.panels import draw_mode

    panels, rows, chance = [], [], accuracy.get("chance")
    for mode in MODES:
        marks = _list_shares(accuracy, mode, ("all", *classes))
        if marks:
            panels.append(draw_mode("; ".join(mark["text"] for mark in marks), mode, marks, chance))
        rows += [
            (mode, mark["model"], mark["group"], percent_between(mark), str(mark["n"]))
            for mark in sorted(marks, key=lambda mark: str(mark["model"]))
        ]
    return Figure(
        key="accuracy",
        heading="Accuracy by class",
        note="Test questions. Whiskers are the intervals; the classes are the base model's."
        + (" The dotted line is chance." if chance is not None else ""),
        panels=tuple(panels),
        columns=("mode", "model", "class", "accuracy", "questions"),
        rows=tuple(rows),
        legend=(("base", "base, circle"), ("tuned", "tuned, square")),
    )


def _list_shares(accuracy: Row, mode: str, groups: Sequence[str]) -> list[Row]:
    marks: list[Row] = []
    for place, group in enumerate(groups):
        for who in MODELS:
            result = (accuracy.get(who) or {}).get(mode)
            share = result if group == "all" or not result else result["by_complexity"].get(group)
            if share:
                text = f"{who}, {group}: {percent_between(share)}"
                bounds = {key: share[key] for key in ("value", "low", "high", "n")}
                marks.append({**bounds, "model": who, "group": group, "place": place,
                              "text": text, "hover": f"{text}, n = {share['n']}"})  # fmt: skip
    return marks


def draw_token_costs(cost: Row) -> Figure:
    """Where the tokens went, one bar a purpose, all on one scale; `cost` is the summary's."""
    tokens = {name: cost[key] for key, name in TOKEN_COSTS}
    note = "Tokens; all bars on one scale."
    return draw_token_bars("Where the tokens went", note, "purpose", tokens)


def draw_token_bars(heading: str, note: str, column: str, tokens: Mapping[str, int]) -> Figure:
    """One bar a name; `column` says what the names are."""
    from caft.report.charts.panels import draw_tokens

    bars = [
        {"name": name, "tokens": count, "count": f"{count:,}", "hover": f"{name}: {count:,} tokens"}
        for name, count in tokens.items()
    ]
    return Figure(
        key="tokens",
        heading=heading,
        note=note,
        panels=(draw_tokens("; ".join(f"{bar['name']}: {bar['count']}" for bar in bars), bars),),
        columns=(column, "tokens"),
        rows=tuple((name, f"{count:,}") for name, count in tokens.items()),
    )
