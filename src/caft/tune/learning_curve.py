"""The learning curve of a stage: best epoch, and whether it still improves. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Row = dict[str, float]
"""One measurement: step and epoch (from 1 on), and either loss (cross-entropy in nats a token,
whatever `tuning.loss` is), gradient_norm and learning_rate, or validation_accuracy (0 to 1) and
validation_questions."""


def accuracies(curve: Sequence[Row]) -> list[float]:
    """Validation accuracy by epoch."""
    return [row["validation_accuracy"] for row in curve if "validation_accuracy" in row]


def best_epoch(curve: Sequence[Row]) -> int | None:
    """The first epoch, from 1 on, with the highest validation accuracy; None if none has one.

    The first of several, because later epochs without a gain only over-fit.
    """
    measured = accuracies(curve)
    return measured.index(max(measured)) + 1 if measured else None


def is_out_of_patience(curve: Sequence[Row], patience: int | None) -> bool:
    """Whether the last `patience` epochs were no better than the best before them."""
    best = best_epoch(curve)
    if patience is None or best is None:
        return False
    return len(accuracies(curve)) - best >= patience


def questions_asked(curve: Sequence[Row]) -> int:
    """How many validation questions an epoch's accuracy rests on; 0 if none was asked."""
    return max((int(row.get("validation_questions", 0)) for row in curve), default=0)
