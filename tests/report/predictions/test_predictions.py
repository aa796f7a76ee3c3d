"""Predictions of other tools: read, refused, judged as a sweep, and printed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caft.errors import UserError
from caft.report.__main__ import main
from caft.report.predictions import judge_predictions, read_predictions, write_judgement
from caft.report.predictions.judge import Judgement
from caft.report.sweep.arms import find_arms
from caft.report.sweep.comparisons import compare_all, compare_pairs
from caft.report.sweep.job_results import JobResult
from caft.statistics import compare_counts
from caft.statistics.calibrate import Truth, draw_arms
from caft.store import write_rows

Rows = list[dict[str, Any]]
NAMES = {"first": "random", "second": "by entropy"}


def make_rows(effect: float = 0.15, seeds: int = 5, questions: int = 300) -> Rows:
    truth = Truth(effect=effect, questions=questions, seeds=seeds, spread=0.01)
    drawn = draw_arms(truth, np.random.default_rng(0))
    return [
        {"question_id": f"q{number}", "arm": NAMES[arm], "seed": seed, "correct": int(right),
         "teacher_tokens": 10 * (arm == "second") + 1500, "test_tokens": 7}
        for arm, rows in drawn.items()
        for seed, row in rows.items()
        for number, right in enumerate(row)
    ]  # fmt: skip


def count_rows(rows: Rows) -> Rows:
    counted: dict[tuple[str, int], list[int]] = {}
    for row in rows:
        counted.setdefault((row["arm"], row["seed"]), []).append(row["correct"])
    return [
        {"arm": arm, "seed": seed, "correct_count": sum(right), "n": len(right)}
        for (arm, seed), right in counted.items()
    ]


def write_csv(path: Path, rows: Rows) -> Path:
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    write_rows(path, rows)
    return path


def judge(path: Path) -> Judgement:
    return judge_predictions(read_predictions(path))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.csv", write_csv), ("a.jsonl", write_jsonl), ("a.parquet", write_parquet)],
)
def test_every_format_says_the_same(
    tmp_path: Path, name: str, write: Callable[[Path, Rows], Path]
) -> None:
    rows = make_rows()
    found = judge(write(tmp_path / name, rows))
    (pair,) = found.comparisons
    assert (pair["first"], pair["second"], pair["seeds"], pair["n"]) == (
        "random", "by entropy", 5, 300
    )  # fmt: skip
    assert found.verdicts == ["yes"]
    assert [head.answer for head in found.headlines] == ["by entropy"]
    assert found.paired


def test_rows_in_any_order_and_in_several_files_are_the_same_sweep(tmp_path: Path) -> None:
    rows = make_rows()
    whole = judge(write_csv(tmp_path / "all.csv", rows))
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a table")
    mixed = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    write_csv(folder / "a.csv", mixed[:1000])
    write_jsonl(folder / "b.jsonl", mixed[1000:])
    assert judge(folder).comparisons == whole.comparisons


def rows_of(jobs: Iterable[JobResult]) -> Rows:
    return [
        {"question_id": key, "arm": job.finished["method"]["name"], "seed": job.seed,
         "correct": int(right)}
        for job in jobs
        for key, right in job.outcomes.items()
    ]  # fmt: skip


def test_the_statistics_are_those_of_the_sweeps_own_report(
    tmp_path: Path, make_job: Callable[..., JobResult]
) -> None:
    jobs = [
        make_job(3 * k + seed, method=method, seed=seed, accuracy=accuracy)
        for k, (method, accuracy) in enumerate((("sft", 0.45), ("distill", 0.63)))
        for seed in (1, 2, 3)
    ]
    (ours,) = compare_all(find_arms(jobs), 0.95)
    (theirs,) = judge(write_csv(tmp_path / "a.csv", rows_of(jobs))).comparisons
    assert {**theirs, "mode": ours["mode"]} == ours


def test_of_several_pairs_both_say_the_same_too(
    tmp_path: Path, make_job: Callable[..., JobResult]
) -> None:
    """The table of pairs, and tests that end in a verdict, whose intervals hold together."""
    jobs = [
        make_job(3 * k + seed, method=method, seed=seed, accuracy=accuracy)
        for k, (method, accuracy) in enumerate(
            (("sft", 0.45), ("complexity_aware", 0.56), ("distill", 0.63))
        )
        for seed in (1, 2, 3)
    ]
    arms = find_arms(jobs)
    found = judge(write_csv(tmp_path / "a.csv", rows_of(jobs)))
    tests = compare_pairs([*itertools.combinations(arms, 2)], 0.95, together=True)
    assert [{**pair, "mode": "rationale"} for pair in found.together.values()] == tests
    pairs = compare_all(arms, 0.95)
    assert [{**pair, "mode": "rationale"} for pair in found.comparisons] == [
        {**pair, "detectable": test["detectable"]} for pair, test in zip(pairs, tests, strict=True)
    ]
    assert all(test["low"] < pair["low"] for pair, test in zip(pairs, tests, strict=True))


def test_counts_are_judged_by_unpaired_tests_and_say_what_that_costs(tmp_path: Path) -> None:
    rows = make_rows(effect=0.09)
    by_question = judge(write_csv(tmp_path / "a.csv", rows))
    counted = judge(write_csv(tmp_path / "b.csv", count_rows(rows)))
    (pair,), (paired,) = counted.comparisons, by_question.comparisons
    assert not counted.paired
    assert pair["value"] == pytest.approx(paired["value"])
    assert pair["p_value"] > paired["p_value"]
    assert pair["high"] - pair["low"] > paired["high"] - paired["low"]
    arms = read_predictions(tmp_path / "b.csv")
    assert pair["p_value"] == compare_counts(arms[0].counts, arms[1].counts).p_value
    (cost,) = [text for text in counted.warnings if text.startswith("Counts alone")]
    assert "the same power takes 1.7 times as many questions" in cost
    # Both differences are what all comparisons together, here one, would see.
    assert "corrected" not in cost
    three = [*rows, *({**row, "arm": "third"} for row in rows if row["arm"] == "random")]
    warned = judge(write_csv(tmp_path / "c.csv", count_rows(three))).warnings
    (cost,) = [text for text in warned if text.startswith("Counts alone")]
    assert "and one seed, corrected for all 3 pairs, they would see a difference of" in cost
    text = write_judgement(counted)
    assert "p of unpaired tests" in text
    assert "only first correct" not in text
    assert "only first correct" in write_judgement(by_question)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows())
    assert main(["--predictions", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "Which setting is the most accurate at equal teacher tokens (1.5k each, "
    )
    (arms, pairs) = (block for block in text.split("\n\n") if block.startswith("| "))
    head, _, *rows = arms.splitlines()
    assert head == (
        "| setting | accuracy | seeds | over seeds | tokens per question | teacher tokens |"
    )
    assert [row.split(" | ")[-2:] for row in rows] == [["7.0", "1.5k |"], ["7.0", "1.51k |"]]
    assert pairs.splitlines()[2].endswith("| equal | yes |")
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("|"))


def test_only_arms_of_one_budget_are_ranked(tmp_path: Path) -> None:
    """Budgets of 100 and 102 are equal, within 2%; 99 and 102 are not, and each has its rivals."""
    rows = [
        {**row, "arm": f"{row['arm']} {bill}", "teacher_tokens": bill}
        for row, bill in itertools.product(make_rows(), (99, 100, 102, 500))
        if bill != 500 or row["arm"] == "random"
    ]
    rows += [{key: value for key, value in row.items() if key != "teacher_tokens"} | {"arm": "?"}
             for row in rows if row["arm"] == "random 99"]  # fmt: skip
    found = judge(write_jsonl(tmp_path / "a.jsonl", rows))
    asked = "Which setting is the most accurate at equal teacher tokens ({} each, within 2%)?"
    assert [head.asked for head in found.headlines] == [asked.format(101), asked.format(100)]
    by_pair = {
        (pair["first"], pair["second"]): (verdict, budget)
        for pair, verdict, budget in zip(
            found.comparisons, found.verdicts, found.budgets, strict=True
        )
    }
    assert by_pair["random 99", "by entropy 100"] == ("yes", "equal")
    assert by_pair["random 99", "by entropy 102"] == ("unequal budgets", "99 and 102")
    assert by_pair["?", "by entropy 102"] == ("unequal budgets", "unknown and 102")
    alone = judge(write_csv(tmp_path / "b.csv", [
        {**row, "teacher_tokens": 100 + 3 * (row["arm"] == "random")} for row in make_rows()
    ]))  # fmt: skip
    assert [head.answer for head in alone.headlines] == ["Undefined"]
    assert alone.verdicts == ["unequal budgets"]


def test_columns_that_are_not_there_are_not_shown(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("question_id", "arm", "seed", "correct")}
            for row in make_rows(seeds=2)]  # fmt: skip
    found = judge(write_csv(tmp_path / "a.csv", rows))
    text = write_judgement(found)
    assert "tokens" not in text
    assert found.verdicts == ["not enough data"]
    assert "Fewer than 3 seeds: random, by entropy." in text


@pytest.mark.parametrize("counts", [False, True])
def test_tokens_that_are_not_told_are_unknown_and_not_zero(tmp_path: Path, counts: bool) -> None:
    """Of the files of a folder, one alone has the column."""
    rows = [{key: row[key] for key in ("question_id", "arm", "seed", "correct")}
            for row in make_rows(seeds=2, questions=40)]  # fmt: skip
    for arm, seed in itertools.product(NAMES.values(), (0, 1)):
        own = [row for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
        own = count_rows(own) if counts else own
        if (arm, seed) == ("random", 0):
            own = [{**row, "test_tokens": 400 if counts else 10} for row in own]
        write_csv(tmp_path / f"{arm} {seed}.csv", own)
    table = write_judgement(judge(tmp_path)).split("\n\n")[-3].splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| by entropy", "| random"]
    assert [line.split(" | ")[-1] for line in table] == [
        "tokens per question |", "--- |", "unknown |", "10.0 |"]  # fmt: skip


def test_the_bill_of_one_seed_is_not_that_of_all(tmp_path: Path) -> None:
    rows = [{**row, "teacher_tokens": 5} if row["seed"] == 1 else row for row in small()]
    with pytest.raises(UserError, match=r"'one' has teacher_tokens under seed 1 and none under"):
        read_predictions(write_jsonl(tmp_path / "a.jsonl", rows))


def test_headline_and_warning_agree_on_two_seeds(tmp_path: Path) -> None:
    """Two seeds may be clearly ahead, and are too few for a verdict (docs/decisions/0072)."""
    rows = [{key: row[key] for key in ("question_id", "arm", "seed", "correct")}
            for row in make_rows(effect=0.3, seeds=2)]  # fmt: skip
    found = judge(write_csv(tmp_path / "a.csv", rows))
    (head,), (warning,) = found.headlines, found.warnings
    assert (head.answer, found.verdicts) == ("by entropy", ["not enough data"])
    assert head.detail == (
        "It is clearly ahead of every other setting, by test and by interval. A verdict on other "
        "seeds takes 3 of each."
    )
    assert warning == (
        "Fewer than 3 seeds: random, by entropy. They say too little about other seeds for a "
        "verdict, whichever setting is ahead."
    )


def test_three_arms_are_corrected_together(tmp_path: Path) -> None:
    rows = make_rows()
    rows += [{**row, "arm": "third"} for row in rows if row["arm"] == "random"]
    found = judge(write_csv(tmp_path / "a.csv", rows))
    assert len(found.comparisons) == len(found.verdicts) == 3
    smallest = min(found.comparisons, key=lambda pair: pair["p_value"])
    assert smallest["p_adjusted"] == pytest.approx(3 * smallest["p_value"])
    (same,) = [
        pair for pair in found.comparisons if {pair["first"], pair["second"]} == {"random", "third"}
    ]
    assert (same["value"], same["p_value"]) == (0, 1)


@pytest.mark.parametrize("counts", [False, True])
def test_verdicts_of_several_pairs_are_by_intervals_that_hold_together(
    tmp_path: Path, counts: bool
) -> None:
    """An interval that rules out a gain of two points for its own pair alone, of ten, is no "no".

    Every arm is wrong on other twelve questions, under each seed the same.
    """
    rows: Rows = [
        {"question_id": str(number), "arm": str(arm), "seed": seed, "correct": number // 12 != arm}
        for arm, seed, number in itertools.product(range(5), range(3), range(600))
    ]
    few = [row for row in rows if int(row["arm"]) < 2]
    tables = [count_rows(each) if counts else each for each in (rows, few)]
    found, alone = (judge(write_jsonl(tmp_path / "a.jsonl", each)) for each in tables)
    assert all(pair["high"] < 0.02 for pair in found.comparisons)
    assert found.verdicts == ["not enough data"] * 10
    text = write_judgement(found).replace("\n", " ")
    bounds = sorted({f"{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}"
                     for pair in found.together.values()})  # fmt: skip
    assert f"| not enough data ({bounds[0]}) |" in text
    assert "The 10 verdicts, the answers above and these pairs' MDD are" in text
    # One pair has nothing to hold together with.
    assert alone.verdicts == ["no"]
    assert [*alone.together.values()] == alone.comparisons
    assert "in brackets" not in write_judgement(alone)


def small() -> Rows:
    return [
        {"question_id": question, "arm": arm, "seed": seed, "correct": 1}
        for arm in ("one", "two") for seed in (1, 2) for question in ("a", "b")
    ]  # fmt: skip


def without(column: str) -> Rows:
    return [{key: value for key, value in row.items() if key != column} for row in small()]


def changed(place: int, **cells: object) -> Rows:
    rows: Iterable[dict[str, Any]] = small()
    return [{**row, **cells} if number == place else row for number, row in enumerate(rows)]


COUNTS = [{"arm": arm, "seed": 1, "correct_count": 3, "n": 9} for arm in ("one", "two")]
WRONG: dict[str, tuple[Rows, str]] = {
    "no arm": (without("arm"), r"a\.csv has no column arm; --predictions needs question_id, arm,"),
    "no correct": (without("correct"), r"has no column correct; .*or counts alone: arm, seed,"),
    "another name": ([{"id": 1, "right": 1}], r"no column question_id and no arm and no seed and"),
    "other questions": (small()[:-1], r"'two' has other questions under seed 2 than 'one': 1 miss"),
    "more questions": (
        [*small(), {**small()[-1], "question_id": "c"}], r"seed 2 .*: 1 more, such as 'c'; give"
    ),
    "twice": ([*small(), small()[0]], r"a\.csv:10: column 'question_id' holds 'a'; arm 'one' has"),
    "not 0 or 1": (changed(3, correct="yes"), r"a\.csv:5: column 'correct' holds 'yes'; give 1 or"),
    "a share": (changed(3, correct=0.5), r"column 'correct' holds '0.5'; give 1 or 0"),
    "empty": (changed(3, correct=""), r"a\.csv:5: column 'correct' is empty; give 1 or 0"),
    "no seed": (changed(2, seed=""), r"a\.csv:4: column 'seed' is empty; give a whole number"),
    "no name": (changed(2, arm=" "), r"column 'arm' is empty; give a name or a number"),
    "one arm": (small()[:4], r"a\.csv has one arm, 'one'; give the rows of two or more"),
    "tokens in words": (
        [{**row, "test_tokens": "few"} for row in small()], r"'few'; give a number of tokens, or"
    ),
    "two bills": (
        [{**row, "teacher_tokens": n} for n, row in enumerate(small())],
        r"column 'teacher_tokens' holds '1'; an earlier row of arm 'one' and seed 1 has 0; it is",
    ),
    "more than all": ([*COUNTS, {**COUNTS[0], "seed": 2, "correct_count": 10}], r"more than its n"),
    "no questions": ([*COUNTS, {**COUNTS[0], "seed": 2, "n": 0}], r"'n' holds '0'; give a whole"),
    "counts twice": ([*COUNTS, COUNTS[0]], r"column 'seed' holds '1'; arm 'one' has it twice"),
    "one counted arm": (COUNTS[:1], r"has one arm, 'one'"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), WRONG.values(), ids=list(WRONG))
def test_bad_input_is_one_line(
    tmp_path: Path, rows: Rows, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "a.csv", rows)
    assert main(["--predictions", str(path)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err), err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "question_id,arm,seed,correct\n", "a.csv has no rows"),
        ("a.csv", "", "a.csv has no rows"),
        ("a.txt", "1", "ends in '.txt'; give a file that ends in"),
        ("missing", "", "there is no such file"),
        ("folder", "", "holds no file that ends in .jsonl, .csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name != "missing":
        path.write_text(text)
    assert main(["--predictions", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["sweep", "--predictions", "a.csv"],
                                   ["--predictions", "a.csv", "--markdown"]])  # fmt: skip
def test_a_sweep_or_predictions_and_not_both(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "SWEEP_DIR" in capsys.readouterr().err


def test_several_tables_are_judged_together(tmp_path: Path) -> None:
    rows = make_rows(seeds=2, questions=4)
    parts = [write_jsonl(tmp_path / f"{seed}.jsonl", [row for row in rows if row["seed"] == seed])
             for seed in {row["seed"] for row in rows}]  # fmt: skip
    whole = write_jsonl(tmp_path / "whole.jsonl", rows)
    assert read_predictions(*parts) == read_predictions(whole)
