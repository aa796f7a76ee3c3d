"""Is a free answer right? math-verify decides mathematics where it is installed, or your function.

Answers that are chosen from a list are compared as they are read, and no grader changes that.
"""

from caft.grading.choose import RULES, choose_grader, grade_by, set_grader
from caft.grading.judge import agreement_of, is_right, rules_differ

__all__ = [
    "RULES",
    "agreement_of",
    "choose_grader",
    "grade_by",
    "is_right",
    "rules_differ",
    "set_grader",
]
