"""Sorts questions into easy, middle and hard. AnswerScores in, Placements out.

Cut points come from training rows only and are applied to the other splits: easy < first cut <=
middle < second cut <= hard. UserError if the scores lack an estimator or a value.
"""

from caft.split.cuts import SplitResult
from caft.split.stage import split_questions

__all__ = ["SplitResult", "split_questions"]
