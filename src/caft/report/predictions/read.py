"""Tables of predictions, checked row by row. The only file here that reads the disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from caft.data.cells import as_text, as_whole_number, is_number, show, show_names
from caft.data.files import READERS, Row, Table, adopt_names, read_table
from caft.errors import UserError

OF_QUESTIONS = ("question_id", "arm", "seed", "correct")
OF_COUNTS = ("arm", "seed", "correct_count", "n")
TEACHER, TEST = "teacher_tokens", "test_tokens"
OF_A_SWEEP = "predictions.parquet"
_TRUTHS = {"1": True, "0": False, "true": True, "false": False}
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedArm:
    """What one setting got right, by seed: by question id, or as counts (right, of n) alone.

    `teacher_tokens` is the bill of each seed's training, `test_tokens` what it generated, with the
    number of test questions that it is told for; both are empty where no table has such a column.
    """

    name: str
    outcomes: dict[int, dict[str, bool]] = field(default_factory=dict)
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    teacher_tokens: dict[int, float] = field(default_factory=dict)
    test_tokens: dict[int, tuple[float, int]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Its seeds, in rising order."""
        return sorted(self.counts)

    @property
    def bill(self) -> float | None:
        """Mean teacher tokens over the seeds; None where the table does not say."""
        bills = self.teacher_tokens.values()
        return fmean(bills) if bills else None

    @property
    def tokens_a_question(self) -> float | None:
        """Over the questions that it is told for; None where the table does not say."""
        told = self.test_tokens.values()
        return sum(spent for spent, _ in told) / sum(n for _, n in told) if told else None

    @property
    def accuracy(self) -> float:
        """Mean share of right answers over the seeds."""
        return sum(right / n for right, n in self.counts.values()) / len(self.counts)


def read_predictions(*paths: Path) -> list[PredictedArm]:
    """The arms of all files, in order of appearance; of a folder its table, or all of its files.

    Either all have outcomes or none has. UserError for a wrong column or cell, a question that an
    arm has twice or not at all, and for fewer than two arms.
    """
    tables = [
        adopt_names(read_table(str(file), "--predictions"), [*OF_QUESTIONS, *OF_COUNTS])
        for path in paths
        for file in _list_files(path)
    ]
    counted = all(_has(table, OF_COUNTS) for table in tables)
    arms: dict[str, PredictedArm] = {}
    for table in tables:
        _refuse_missing(table, OF_COUNTS if counted else OF_QUESTIONS)
        for row in table.rows:
            name, seed = _read_name(row, "arm"), _read_whole(row, "seed")
            arm = arms.setdefault(name, PredictedArm(name=name))
            (_add_count if counted else _add_outcome)(arm, seed, row)
    if len(arms) < 2:
        raise UserError(
            f"--predictions {' '.join(map(str, paths))} has one arm, {next(iter(arms))!r}; give "
            "the rows of two or more"
        )
    _refuse_partial_bills(arms.values())
    if not counted:
        _refuse_other_questions(list(arms.values()))
    return list(arms.values())


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (left := path / OF_A_SWEEP).is_file():
        return [left]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    if not files:
        raise UserError(f"--predictions {path} holds no file that ends in {', '.join(READERS)}")
    return files


def _has(table: Table, columns: Iterable[str]) -> bool:
    return set(columns) <= set(table.columns)


def _refuse_missing(table: Table, wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise UserError(
            f"{table.name} has no column {' and no '.join(missing)}; --predictions needs "
            f"{', '.join(OF_QUESTIONS)} (and may have {TEACHER} and {TEST}), or counts alone: "
            f"{', '.join(OF_COUNTS)}; it has {show_names(table.columns)}"
        )
    if repeated := [name for name in wanted if name in table.repeated]:
        raise UserError(
            f"{table.name}:1: the column name {repeated[0]!r} occurs twice; keep one of the two"
        )


def _read_name(row: Row, column: str) -> str:
    name = as_text(row.values.get(column))
    if not name:
        raise row.wrong_cell(column, "give a name or a number")
    return name


def _read_whole(row: Row, column: str, least: int = 0) -> int:
    number = as_whole_number(row.values.get(column))
    if number is None or number < least:
        raise row.wrong_cell(column, f"give a whole number, {least} or more")
    return number


def _read_amount(row: Row, column: str) -> float | None:
    """A number of tokens; None without the column."""
    if column not in row.values:
        return None
    value = row.values[column]
    amount = float(str(value)) if is_number(value) else math.nan
    if not (math.isfinite(amount) and amount >= 0):
        raise row.wrong_cell(column, "give a number of tokens, or leave the column out")
    return amount


def _add_outcome(arm: PredictedArm, seed: int, row: Row) -> None:
    question = _read_name(row, "question_id")
    right = _TRUTHS.get((as_text(row.values.get("correct")) or "").casefold())
    if right is None:
        raise row.wrong_cell("correct", "give 1 or 0")
    outcomes = arm.outcomes.setdefault(seed, {})
    if question in outcomes:
        raise row.wrong_cell(
            "question_id", f"arm {arm.name!r} has it twice under seed {seed}; keep one of the rows"
        )
    outcomes[question] = right
    so_far, n = arm.counts.get(seed, (0, 0))
    arm.counts[seed] = (so_far + right, n + 1)
    _add_tokens(arm, seed, row, 1)


def _add_count(arm: PredictedArm, seed: int, row: Row) -> None:
    n = _read_whole(row, "n", 1)
    right = _read_whole(row, "correct_count")
    if right > n:
        raise row.wrong_cell("correct_count", f"that is more than its n, {n}; correct one of them")
    if seed in arm.counts:
        raise row.wrong_cell("seed", f"arm {arm.name!r} has it twice; keep one of the rows")
    arm.counts[seed] = (right, n)
    _add_tokens(arm, seed, row, n)


def _add_tokens(arm: PredictedArm, seed: int, row: Row, questions: int) -> None:
    bill, spent = _read_amount(row, TEACHER), _read_amount(row, TEST)
    if bill is not None and arm.teacher_tokens.setdefault(seed, bill) != bill:
        raise row.wrong_cell(
            TEACHER,
            f"an earlier row of arm {arm.name!r} and seed {seed} has "
            f"{arm.teacher_tokens[seed]:,g}; it is the bill of a training run, the same in all of "
            "its rows",
        )
    if spent is not None:
        so_far, n = arm.test_tokens.get(seed, (0.0, 0))
        arm.test_tokens[seed] = (so_far + spent, n + questions)


def _refuse_partial_bills(arms: Iterable[PredictedArm]) -> None:
    """The bill of some seeds is not the arm's: others may have cost more."""
    for arm in arms:
        told = arm.teacher_tokens
        lacking = [seed for seed in arm.seeds if seed not in told]
        if told and lacking:
            raise UserError(
                f"arm {arm.name!r} has {TEACHER} under seed {min(told)} and none under seed "
                f"{lacking[0]}; give the bill of every seed, or leave the column out"
            )


def _refuse_other_questions(arms: list[PredictedArm]) -> None:
    """Every arm has the questions of the first one under every seed."""
    first = arms[0]
    asked = first.outcomes[next(iter(first.outcomes))]
    for arm in arms:
        for seed, outcomes in arm.outcomes.items():
            if outcomes.keys() == asked.keys():
                continue
            raise UserError(
                f"arm {arm.name!r} has other questions under seed {seed} than {first.name!r}: "
                f"{_describe_difference(asked, outcomes)}; give every arm the same questions, or "
                f"counts alone ({', '.join(OF_COUNTS)})"
            )


def _describe_difference(asked: Mapping[str, bool], found: Mapping[str, bool]) -> str:
    parts = []
    for word, ids in (("missing", asked.keys() - found), ("more", found.keys() - asked)):
        if ids:
            named = ", ".join(show(name) for name in sorted(ids)[:_NAMED])
            parts.append(f"{len(ids):,} {word}, such as {named}")
    return " and ".join(parts)
