"""Which questions are easy, middle and hard for this model? AnswerScores in, classes out.

Cut points come from training rows only and are applied to the other splits: easy < first cut <=
middle < second cut <= hard. UserError if the scores lack an estimator or a value, or if a subject
that is to be cut has too few rows.
"""

from caft.split.cuts import SplitResult
from caft.split.stage import most_in_classes, refuse_small_subjects, split_questions

__all__ = ["SplitResult", "most_in_classes", "refuse_small_subjects", "split_questions"]
