"""Gets rationales of hard questions. Questions in; accepted and refused Rationales out.

In: Questions, a teacher's config, the ledger's path. Out: one Rationale a question and attempt.
Errors are UserErrors, and every paid reply is kept: an unsuitable teacher (`check_teacher`, before
any model loads), a cap that is reached, an endpoint that is down.
"""

from caft.distill.chance import Chance
from caft.distill.inputs import DistillInputs
from caft.distill.own import keep_own
from caft.distill.stage import (
    check_teacher,
    forecast_prompts,
    forecast_rationales,
    write_rationales,
)

__all__ = [
    "Chance",
    "DistillInputs",
    "check_teacher",
    "forecast_prompts",
    "forecast_rationales",
    "keep_own",
    "write_rationales",
]
