"""Why a stage had to stop, in one line that says what to change. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from caft.tune.config import Adapter, TuningConfig


def explain_no_number(
    what: str, value: float, rate: float, question_ids: Sequence[str], *, step: int, steps: int
) -> str:
    """A loss or a gradient that is not finite: the step, its rows and its learning rate."""
    return (
        f"the {what} is {value} at step {step} of {steps} (questions {', '.join(question_ids)}; "
        f"learning rate {rate:g}), and the step was not taken; the last checkpoint is kept; lower "
        "tuning.learning_rate or tuning.clip, raise tuning.warmup_steps or use "
        "model.dtype=float32"
    )


def explain_validation_memory(epoch: int) -> str:
    """What to lower where memory ran out between epochs."""
    return (
        f"out of memory in the validation after epoch {epoch}; lower tuning.batch_tokens for "
        "answers, tuning.validation_replies or evaluation.max_new_tokens for replies that are "
        "written out, or set tuning.validate=false"
    )


def explain_memory(
    config: TuningConfig, longest: int, step: int, steps: int, *, device: str
) -> str:
    """Which setting to lower; `longest` is the step's largest forward pass in tokens."""
    advice = []
    bound = config.tokens_a_pass(device)
    if longest <= bound:
        advice.append(f"lower tuning.batch_tokens (now {bound})")
    else:
        advice.append(f"lower tuning.max_length, since one row alone has {longest} tokens")
    if not config.gradient_checkpointing:
        advice.append("set tuning.gradient_checkpointing=true")
    if config.adapter is Adapter.full:
        advice.append("use tuning=lora")
    elif config.adapter is Adapter.qlora:
        advice.append("use a smaller model")
    else:
        advice.append("use model.dtype=bfloat16, tuning=qlora or a smaller model")
    return (
        f"out of memory at step {step} of {steps}, in a pass of at most {longest} tokens; "
        f"{', or '.join(advice)}"
    )
