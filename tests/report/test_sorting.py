"""Tables of a run's page in Chromium: sorted by every head, and their cells on a phone."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caft.records import COMPLEXITIES, Rationale
from caft.report.check import check_summary
from caft.report.run.html import render_report

SORTED_BY_EVERY_HEAD = """() => [...document.querySelectorAll("table.sortable")].map(table => ({
  label: table.parentNode.getAttribute("aria-label"),
  columns: [...table.tHead.rows[0].cells].map((head, place) => {
    head.querySelector("button").click();
    const rows = [...table.tBodies[0].rows];
    return [head.innerText, rows.map(row => row.cells[place].textContent.trim())];
  }),
}))"""
CELLS_IN_PIECES = """() => [...document.querySelectorAll(".stack td[data-name]")].filter(cell =>
  [...cell.childNodes].filter(e => e.textContent.trim() && e.className !== "tag").length > 1
).map(cell => cell.outerHTML.slice(0, 99))"""
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "min": 60, "h": 3600}
CHANGES = ((0.1, 9, 0.4), (-0.023, 1200, 0.0001), (-0.163, 70, 0.03))
NO_NUMBERS = {"fingerprint"}
MODES = ("answer", "rationale", "routed")


def as_share(value: float, n: int = 1000) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": n}


def lose_on(name: str, change: float, lost: int, p: float) -> dict[str, Any]:
    tests = {"only_base": lost, "only_tuned": 2 * lost, "p_value": p, "p_adjusted": p}
    return {
        "dataset": name, "mode": "answer", "left_out": 0, "chance": 0.1, "grader": "",
        "base": as_share(0.5), "tuned": as_share(0.5 + change), "verdict": "no", "reason": "",
        "unparsable": {"base": lost, "tuned": 3}, "change": as_share(change) | tests,
    }  # fmt: skip


def ask_for_rationales(complexity_of: dict[str, str]) -> list[Rationale]:
    """11 of 110 are rejected, 30 of 250 and 29 of 190: in another order as shares."""
    return [
        Rationale(question_id=key, text="", answer=None, agrees=False,
                  refusal=("cut off", "disagrees", "cut off", "other")[k % 4] if k < lost else "")
        for name, asked, lost in zip(COMPLEXITIES, (110, 250, 190), (11, 30, 29), strict=True)
        for k, key in enumerate([key for key, own in complexity_of.items() if own == name][:asked])
    ]  # fmt: skip


@pytest.fixture(scope="module")
def full_page(finished_run: Any) -> str:
    """All tables that a run may have, with numbers that texts would put in another order."""
    summary, tables = copy.deepcopy(finished_run.summary), finished_run.tables
    score, accuracy = summary["score"], summary["accuracy"]
    gaps = {"option_entropy": 0.252, "option_mass": -0.163, "top1_margin": -0.023}
    score["differences"] = [
        {"first": "answer_entropy", "second": name} | as_share(gap) for name, gap in gaps.items()
    ]
    score["by_subject"] = {
        f"{k} steps": as_share(value, n) | {"incorrect": n // 2}
        for k, (value, n) in enumerate(((0.7, 1200), (0.8, 90), (0.6, 600)))
    }
    counts = (3, 1000, 200, 40, 5, 60)
    for count, who in zip(counts, itertools.product(("base", "tuned"), MODES), strict=True):
        result = accuracy[who[0]][who[1]]
        result["unread"] = {"no_marker": count, "outside": 2 * count, "cut": 7,
                            "said": {"zero": 2 * count - 1, "13": 1}}  # fmt: skip
        result |= {"unparsable": 3 * count + 7, "thinking_tokens": 300 * count}
        result["obeyed"] = as_share(count / 2000)
    summary["forgetting"] = {
        "verdict": "not enough data", "margin": 0.02,
        "tests": [lose_on(f"set{k}", *change) for k, change in enumerate(CHANGES)],
    }  # fmt: skip
    check_summary(summary)
    asked = replace(tables, rationales=ask_for_rationales(tables.complexity_of))
    return render_report(summary, asked, "", "A run", questions=0)


def read_number(text: str) -> float | None:
    """The number that a reader goes by: the first; None for words."""
    found = re.match(r"(?:below |above |p [=<] )?([+-]?\d[\d,]*\.?\d*)(?: (\w+))?", text)
    if found is None:
        return None
    return float(found[1].replace(",", "")) * UNITS.get(found[2], 1)


def test_every_head_of_a_run_sorts_by_the_numbers_that_stand_first(
    full_page: str, open_page: Callable[..., Any]
) -> None:
    found = {
        table["label"]: dict(table["columns"])
        for table in open_page(full_page).evaluate(SORTED_BY_EVERY_HEAD)
    }
    assert set(found) == {
        "Estimates and their ROC AUC", "AUC by subject", "Classes", "Rejected rationales",
        "Rationales by class", "Accuracy by model and mode", "Replies without a readable answer",
        "Accuracy by subject", "Accuracy on further data sets", "Stages of this run",
    }  # fmt: skip
    wrong, numbers_in = [], 0
    for label, columns in found.items():
        for name, texts in columns.items():
            numbers = [read_number(text) for text in texts]
            known = [number for number in numbers if number is not None]
            if known and name not in NO_NUMBERS:
                numbers_in += 1
                # What is missing is at the end.
                ends_well = None not in numbers[: len(known)]
                if known != sorted(known) or not ends_well:
                    wrong.append((label, name, texts))
    assert wrong == []
    assert numbers_in == 33


def test_a_cell_of_several_elements_stays_together_on_a_phone(
    full_page: str, open_page: Callable[..., Any]
) -> None:
    """Beside its name a cell has two ends, and pieces would be spread between them."""
    opened = open_page(full_page, viewport={"width": 390, "height": 844})
    assert opened.locator("td[data-name='said outside'] bdi").count() == 12
    assert opened.evaluate(CELLS_IN_PIECES) == []
