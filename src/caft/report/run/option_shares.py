"""The probabilities of the allowed answers among themselves, and the likeliest of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.records import AnswerScore


def share_options(
    scores: Sequence[AnswerScore], gold_of: Mapping[str, int | None]
) -> tuple[list[list[float]], list[int]]:
    """For every score that has them, probabilities that sum to 1; and gold's place among them."""
    rows, golds = [], []
    for score in scores:
        gold, mass = gold_of.get(score.question_id), sum(score.option_probabilities)
        if gold is not None and mass > 0:
            rows.append([share / mass for share in score.option_probabilities])
            golds.append(gold)
    return rows, golds


def pick_likeliest(
    rows: Sequence[Sequence[float]], golds: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """The likeliest answer's probability in each row, and whether it is gold."""
    tops = [max(range(len(row)), key=row.__getitem__) for row in rows]
    sure = [min(1.0, row[top]) for row, top in zip(rows, tops, strict=True)]
    return sure, [top == gold for top, gold in zip(tops, golds, strict=True)]
