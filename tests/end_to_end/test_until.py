"""A run that is to stop early stops there, and writes down what it knows."""

from __future__ import annotations

from typing import Any

import pytest

from caft.report.check import check_summary

STAGES = ["score", "distill", "tune 1", "tune 2"]
REACHED = {"score": STAGES[:1], "split": STAGES[:1], "distill": STAGES[:2], "tune": STAGES}


@pytest.mark.parametrize("until", [*REACHED, "evaluate"])
def test_nothing_after_the_named_stage_is_run(
    shared: Any, whole_run: Any, small: Any, until: str
) -> None:
    run = shared.run(*small.words, small.two_stages, f"until={until}")
    assert (run.status, run.err) == (0, "")
    assert run.stages == REACHED.get(until, whole_run.stages)
    check_summary(run.summary)
    known, whole = run.summary, whole_run.summary
    for part, first in (("score", "score"), ("split", "split"), ("accuracy", "evaluate")):
        order = ["score", "split", "distill", "tune", "evaluate"]
        reached = order.index(until) >= order.index(first)
        assert known[part] == (whole[part] if reached else None)
    tuned = until in ("tune", "evaluate")
    assert (run.folder / "adapter").is_dir() == tuned
    assert (run.folder / "predictions.parquet").exists() == (until == "evaluate")
    assert (run.folder / "rationales.parquet").exists() == (
        until in ("distill", "tune", "evaluate")
    )
    assert (run.folder / "report.html").is_file()
    examples = [stage["examples"] for stage in known["method"]["stages"]]
    assert examples == ([30, 10] if tuned else [None, None])


def test_until_score_in_an_empty_store_makes_scores_only(workshop: Any, small: Any) -> None:
    run = workshop.run(*small.words, "until=score")
    assert run.status == 0
    assert [made.split("/")[0] for made in workshop.made()] == ["score"]
    assert run.rows("scores")[0]["complexity"] is None


def test_a_page_that_cannot_be_drawn_costs_no_numbers(
    workshop: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError("a figure without width")

    monkeypatch.setattr("caft.pipeline.outputs.render_report", fail)
    run = workshop.run(*small.words, "until=score")
    assert run.status == 1
    check_summary(run.summary)
    assert "a figure without width" in run.err + run.out
    assert str(run.folder / "summary.json") in "".join(run.out.split())


def test_until_data_shows_how_the_first_row_was_read_and_writes_nothing(workshop: Any) -> None:
    file = workshop.folder / "mine.csv"
    rows = [f"Which is {n}?,u,v,w,{'ABC'[n % 3]}" for n in range(20)]
    file.write_text("\n".join(["Question,A,B,C,label", *rows]), encoding="utf-8")
    words = ("dataset=local", f"dataset.train_path={file}")
    # A method that needs a teacher, and a model that is not here: neither matters yet.
    for mode in ((), ("-m", "seed=1,2")):
        run = workshop.run(*words, "model=phi3", "until=data", *mode)
        assert run.status == 0, run.err
        shown = [line.split() for line in run.out.splitlines()]
        assert ["question", "question", "Which", "is", "0?"] in shown
        assert ["options", "A,", "B,", "C", "A.", "u"] in shown
        assert ["answer", "label,", "as", "letter", "A.", "u"] in shown
        assert ["local:", "16", "train,", "2", "validation,", "2", "test", "questions."] in shown
        assert sorted(path.name for path in workshop.folder.iterdir()) == ["mine.csv"]
    dry = workshop.run(*words, "model=tiny", "method=sft", "until=score", "dry_run=true")
    assert "This is how mine.csv:2 was read:" in dry.out
