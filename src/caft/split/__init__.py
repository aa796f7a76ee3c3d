"""Which questions are easy, middle and hard for this model? AnswerScores in, classes out.

Cut points come from training rows only and are applied to the other splits: easy < first cut <=
middle < second cut <= hard. UserError if the scores lack an estimator or a value.
"""

from caft.split.cuts import SplitResult
from caft.split.stage import split_questions

__all__ = ["SplitResult", "split_questions"]
