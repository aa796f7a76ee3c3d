"""Who explains the hard questions: questions in, Rationales out, refused ones with their reason.

In: Questions, a teacher's config, the ledger's path. Out: one Rationale a question and attempt.
What can go wrong ends in a UserError with every paid reply kept: a teacher that cannot do the
work (`check_teacher`, before any model loads), a cap that is reached, an endpoint that is down.
"""

from caft.distill.inputs import DistillInputs
from caft.distill.stage import (
    check_teacher,
    forecast_prompts,
    forecast_rationales,
    write_rationales,
)

__all__ = [
    "DistillInputs",
    "check_teacher",
    "forecast_prompts",
    "forecast_rationales",
    "write_rationales",
]
