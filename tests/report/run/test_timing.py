"""Shares and rates of a run's stages, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from caft.report.run.timing import add_rates, list_time_rows
from caft.report.schema import StageRecordPart


def stage(name: str, seconds: float, *, cached: bool = False, **tokens: int) -> StageRecordPart:
    return {"name": name, "fingerprint": "f" * 20, "cached": cached, "seconds": seconds,
            "peak_memory_bytes": None, **tokens}  # type: ignore[typeddict-item]  # fmt: skip


STAGES = [
    stage("score", 20.0, cached=True, tokens_read=5000, tokens_written=0),
    stage("distill", 5.0),
    stage("tune 1", 30.0, tokens_trained=900, tokens_read=1),
    # A question is read for its score, and an answer of several tokens is written then.
    stage("evaluate", 10.0, tokens_read=4000, tokens_written=400),
    stage("empty", 0.0, tokens_read=0),
]


def test_shares_are_of_the_runs_time_and_rates_of_what_a_stage_is_for() -> None:
    found = add_rates(STAGES, 50.0)
    assert [row["share"] for row in found] == [None, 0.1, 0.6, 0.2, 0.0]
    assert [row["tokens_per_second"] for row in found] == [250.0, None, 30.0, 40.0, None]
    assert found[2]["tokens_trained"] == 900


def test_earlier_attempts_of_a_resumed_stage_count_as_the_runs_time() -> None:
    shares = [row["share"] for row in add_rates(STAGES, 9.0)]
    assert shares == [None, 5 / 45, 30 / 45, 10 / 45, 0.0]
    assert add_rates([stage("empty", 0.0)], 0.0)[0]["share"] is None


def test_the_rest_is_what_no_stage_took(sample: Any) -> None:
    sample.summary["run"]["seconds"] = 50.0
    sample.summary["stages"] = add_rates(STAGES, 50.0)
    rows = list_time_rows(sample.summary)
    assert [(row.name, row.cached, row.rate) for row in rows] == [
        ("score", True, "250 read"),
        ("distill", False, ""),
        ("tune 1", False, "30 trained"),
        ("evaluate", False, "40 written"),
        ("empty", False, ""),
        ("the rest", False, ""),
    ]
    assert [row.tokens for row in rows] == [
        (5000, "read"), (0, ""), (900, "trained"), (400, "written"), (0, ""), (0, "")
    ]  # fmt: skip
    assert rows[-1].seconds == 5.0
    assert sum(row.share or 0.0 for row in rows) == pytest.approx(1.0)


def test_a_summary_of_an_earlier_version_has_times_only(sample: Any) -> None:
    assert "seconds" not in sample.summary["run"]
    rows = list_time_rows(sample.summary)
    assert [row.seconds for row in rows] == [0.1, 0.02, 41.5, 151.0, 88.2]
    assert {(row.share, row.rate) for row in rows} == {(None, "")}
