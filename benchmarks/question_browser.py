"""How long the question browser takes over 12,000 questions, in headless Chromium.

    python benchmarks/question_browser.py [report.html]

Without a page it makes one of 12,000 questions. The last line is one JSON object: bytes of the
page, milliseconds until it is ready, and of the median and slowest filtering, sorting and turning
of pages (script and layout together).
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from caft.records import COMPLEXITIES, AnswerScore, Question
from caft.report.run.html import render_report
from caft.report.tables import ReportTables
from processor import describe_processor

MANY = 12_000
WORDS = ("question 11986", "these 41", "option", "law", "zzz", "")

TIMED = """([kind, value]) => {
  const start = performance.now();
  if (kind === "find") {
    const field = document.querySelector("input[name=words]");
    field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  } else {
    document.querySelector(value).click();
  }
  document.body.offsetHeight;
  return performance.now() - start;
}"""


def make_page() -> str:
    """A report of 12,000 questions and nothing else."""
    keys = [f"q{k:05}" for k in range(MANY)]
    options = tuple(f"option {name}, with some words to read" for name in "abcd")
    tables = ReportTables(
        questions={
            key: Question(id=key, text=f"Question {k}: which of these {k % 97}? " + "Words. " * 40,
                          options=options, gold_index=k % 4, subject="law")
            for k, key in enumerate(keys)
        },
        split_of=dict.fromkeys(keys, "train"),
        complexity_of={key: COMPLEXITIES[k * 3 // MANY] for k, key in enumerate(keys)},
        scores=[
            AnswerScore(question_id=key, predicted="A", valid=True, correct=k % 4 == 0,
                        estimates={"answer_entropy": k / MANY})
            for k, key in enumerate(keys)
        ],
    )  # fmt: skip
    area = {"value": None, "low": None, "high": None, "n": MANY, "incorrect": 0}
    summary = {
        "run": {"name": "large", "seed": 1, "overrides": [], "git_commit": None, "started": "",
                "finished": "", "versions": {}, "device": "cpu"},
        "model": {"id": "none", "revision": None, "parameters": None,
                  "trainable_parameters": None},
        "dataset": {"name": "large", "fingerprint": "",
                    "counts": {"train": MANY, "validation": 0, "test": 0}},
        "score": {"estimator": "answer_entropy", "roc_auc": {"answer_entropy": area},
                  "option_mass": None, "valid_answer_rate": 1.0},
        "method": {"name": "base", "stages": []},
    }  # fmt: skip
    return render_report(summary, tables, "", "large")


def measure(page: Any) -> dict[str, float]:
    """Milliseconds by what was done."""
    took: dict[str, list[float]] = {
        "filter": [page.evaluate(TIMED, ["find", words]) for words in WORDS * 3],
        "sort": [page.evaluate(TIMED, ["click", "th[data-key=estimate] button"])
                 for _ in range(6)],
        "turn": [page.evaluate(TIMED, ["click", "#question-turn [name=next]"]) for _ in range(9)],
    }  # fmt: skip
    return {
        f"{name}_ms_{kind}": round(pick(values), 1)
        for name, values in took.items()
        for kind, pick in (("median", statistics.median), ("slowest", max))
    }


def main() -> None:
    """The command line."""
    from playwright.sync_api import sync_playwright

    html = Path(sys.argv[1]).read_text(encoding="utf-8") if sys.argv[1:] else make_page()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "no chromium on this machine (Debian: apt-get install chromium)"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        file = Path(folder) / "page.html"
        file.write_text(html, encoding="utf-8")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-questions]", state="attached")
        numbers = {"bytes": len(html.encode()), "ready_ms": round(page.evaluate(
            "performance.now()")), **measure(page)}  # fmt: skip
        browser.close()
    print(json.dumps(numbers | {"processor": describe_processor()}))


if __name__ == "__main__":
    main()
