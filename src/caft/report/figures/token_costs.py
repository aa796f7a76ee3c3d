"""Where the tokens went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caft.report.figures.figure import Figure

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
    from caft.report.charts.panels import draw_tokens

    rows = [
        {"name": name, "tokens": cost[key], "count": f"{cost[key]:,}",
         "said": f"{name}: {cost[key]:,} tokens"}
        for key, name in LEDGER
    ]  # fmt: skip
    told = "; ".join(f"{row['name']}: {row['count']}" for row in rows)
    return Figure(
        key="ledger",
        heading="Where the tokens went",
        note="All bars on one scale.",
        panels=(draw_tokens(told, rows),),
        columns=("purpose", "tokens"),
        rows=tuple((row["name"], row["count"]) for row in rows),
    )
