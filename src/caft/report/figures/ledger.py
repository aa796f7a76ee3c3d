"""Where the tokens went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Scale, drawing, element, label

_WIDTH = 400


LEDGER = (
    ("teacher_prompt_tokens", "Teacher: tokens read"),
    ("teacher_completion_tokens", "Teacher: tokens written"),
    ("unique_rationale_tokens", "Rationales accepted, each once"),
    ("trained_response_tokens", "Trained on, replies in all epochs"),
    ("trained_total_tokens", "Trained on, with prompts"),
    ("evaluation_generated_tokens", "Generated in evaluation"),
)


def draw_ledger(cost: Mapping[str, Any]) -> Figure:
    """Where the tokens went, one bar a purpose, all on one scale."""
    largest = max(1, *(cost[key] for key, _ in LEDGER))
    height = 46 * len(LEDGER) + 8
    x = Scale(0, largest, 0, _WIDTH)
    bars = [_draw_bar(x, place, name, cost[key]) for place, (key, name) in enumerate(LEDGER)]
    told = "; ".join(f"{name}: {cost[key]:,}" for key, name in LEDGER)
    return Figure(
        key="ledger",
        heading="Where the tokens went",
        note="All bars on one scale.",
        panels=(drawing("ledger", _WIDTH, height, "Tokens by purpose", told, *bars),),
        columns=("purpose", "tokens"),
        rows=tuple((name, f"{cost[key]:,}") for key, name in LEDGER),
    )


def _draw_bar(x: Scale, place: int, name: str, tokens: int) -> Markup:
    top = 46 * place
    width = max(1.5 if tokens else 0.0, x(tokens))
    return element(
        "g",
        element("title", f"{name}: {tokens:,} tokens"),
        label(name, 0, top + 16, "bar-name", "start"),
        label(f"{tokens:,}", _WIDTH, top + 16, "bar-value", "end"),
        element("rect", x=0, y=top + 23, width=_WIDTH, height=11, rx=2, class_="track"),
        element("rect", x=0, y=top + 23, width=width, height=11, rx=2, class_="bar"),
        class_="mark",
    )
