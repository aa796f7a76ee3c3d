"""The mode in which a model does best. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.records import Prediction


def pick_best_mode(validation: Mapping[str, Sequence[Prediction]]) -> str | None:
    """The mode with most validation rows right; of equally good ones, the cheaper.

    Never looks at test rows: a mode chosen there would flatter the model.
    """
    if not validation or not all(validation.values()):
        return None

    def merit(mode: str) -> tuple[int, int]:
        rows = validation[mode]
        return sum(row.correct for row in rows), -sum(row.generated_tokens for row in rows)

    return max(validation, key=merit)
