"""Which questions are easy, middle and hard for this model? AnswerScores in, Placements out.

Cut points come from training rows only and are applied to the other splits; every question is in
exactly one class: easy < first cut <= middle < second cut <= hard. Goes wrong: an estimator
that the scores do not have, or a value that is missing (UserError).
"""

from caft.split.cuts import SplitResult
from caft.split.stage import split_questions

__all__ = ["SplitResult", "split_questions"]
