"""benchmarks/scale.py runs, and what a run leaves stays small where its questions are many."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caft import packed
from caft.packed import encode
from caft.records import COMPLEXITIES, AnswerScore, Mode, Question
from caft.report.run.html import render_report
from caft.report.tables import ReportTables

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scale

SIZE = 200
Ran = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_small(tmp_path_factory.mktemp("records"))


def run_small(folder: Path) -> Ran:
    """What the benchmark found, and the folder of its run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAFT_CACHE", str(folder / "cache"))
        scale.write_file(folder / "questions.jsonl", SIZE)
        return scale.run_size(folder, SIZE, ["report.questions=20"]), folder / "run"


def test_every_stage_of_the_smallest_size_has_all_of_its_rows(records: Ran) -> None:
    found, folder = records
    assert list(found["seconds"]) == ["read", "score", "split", "distill", "report", "ledger"]
    counts = {path.stem: pq.read_metadata(path).num_rows for path in folder.glob("*.parquet")}
    # A tenth is for validation and a tenth for test, where two models reply in two modes.
    assert counts == {"scores": SIZE, "rationales": SIZE * 8 // 10, "predictions": SIZE // 10 * 4}
    assert 0 < found["page_mb"] < 3


def test_a_run_of_packed_rows_leaves_the_same_files(
    records: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "FEWEST_ROWS", 15)
    monkeypatch.setattr(packed, "ROWS_IN_BLOCK", 7)
    blocks = []
    monkeypatch.setattr(packed, "encode", lambda rows: blocks.append(len(rows)) or encode(rows))
    _, folder = run_small(tmp_path)
    assert sum(blocks) > 4 * SIZE  # rows, questions, scores, rationales and replies
    names = [path.name for path in sorted(folder.iterdir())]
    assert names == [path.name for path in sorted(records[1].iterdir())]
    for name in names:
        one, other = ((each / name).read_bytes() for each in (records[1], folder))
        if name.endswith(".parquet"):
            assert one == other
        elif name == "report.html":
            assert plain_lines(one) == plain_lines(other)
        elif name == "SHA256SUMS":
            of_tables = [
                {line for line in sums.decode().splitlines() if line.endswith(".parquet")}
                for sums in (one, other)
            ]
            assert of_tables[0] == of_tables[1] != set()
        else:
            assert without_costs(json.loads(one)) == without_costs(json.loads(other))


def plain_lines(page: bytes) -> list[str]:
    """The lines that tell no time and no memory."""
    told = re.compile(r"\b20\d\d-|\d (m?s|min|[KMG]B)<|data-name=\"(time|share)\"")
    return [line for line in page.decode().splitlines() if not told.search(line)]


def without_costs(found: Any) -> Any:
    """A summary without times, memory and what is counted in them."""
    if isinstance(found, list):
        return [without_costs(each) for each in found]
    if not isinstance(found, dict):
        return found
    measured = {"seconds", "peak_memory_bytes", "share", "started", "finished"}
    return {key: without_costs(each) for key, each in found.items() if key not in measured}


@pytest.mark.slow
def test_the_page_of_twenty_thousand_questions_opens() -> None:
    drawn, keys = random.Random(1), [f"q{number}" for number in range(20_000)]
    questions = {key: make_question(key, drawn) for key in keys}
    tables = ReportTables(
        questions=questions,
        split_of=dict.fromkeys(keys, "test"),
        complexity_of={key: drawn.choice(COMPLEXITIES) for key in keys},
        scores=[
            AnswerScore(question_id=key, predicted="A", valid=True, correct=False,
                        estimates={"answer_entropy": drawn.random()})
            for key in keys
        ],
        predictions={
            (model, mode): [scale.draw_reply(each, mode, 0.5, drawn) for each in questions.values()]
            for model in ("base", "tuned") for mode in (Mode.answer, Mode.rationale)
        },
    )  # fmt: skip
    page = render_report(summary_of(len(keys)), tables, "", "large")
    assert len(page.encode()) < 3_000_000
    assert "of 20,000" in page


def make_question(key: str, drawn: random.Random) -> Question:
    row: dict[str, Any] = scale.make_row(int(key[1:]), drawn)
    # Words that no compression makes small.
    noise = f"{drawn.getrandbits(1200):x}"
    return Question(
        id=key, text=row["question"] + noise, options=tuple(row["options"]), rationale=noise,
        gold_index=row["options"].index(row["answer"]), subject=row["subject"],
    )  # fmt: skip


def summary_of(count: int) -> Any:
    return {
        "run": {"name": "large", "seed": 1, "overrides": [], "git_commit": None, "started": "",
                "finished": "", "versions": {}, "device": "cpu"},
        "model": {"id": "none", "revision": None, "parameters": None,
                  "trainable_parameters": None},
        "dataset": {"name": "large", "fingerprint": "",
                    "counts": {"train": 0, "validation": 0, "test": count}},
        "method": {"name": "base", "stages": []},
    }  # fmt: skip
