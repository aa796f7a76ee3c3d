"""The learning rate's factor by optimizer step. Pure."""

from __future__ import annotations

import math

from caft.tune.config import Schedule


def learning_rate_factor(step: int, steps: int, schedule: Schedule, warmup_steps: int) -> float:
    """Factor of `tuning.learning_rate` at `step` of `steps`: linear warm-up, then the schedule.

    Linear and cosine fall to 0 at the end of the stage.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return {
        Schedule.constant: 1.0,
        Schedule.linear: 1.0 - done,
        Schedule.cosine: 0.5 * (1.0 + math.cos(math.pi * done)),
    }[schedule]
