"""Errors for running out of memory, with the setting to change. Pure."""

from __future__ import annotations

from caft.tune.config import Adapter, TuningConfig

_INSTEAD = {
    Adapter.full: "use tuning=lora",
    Adapter.qlora: "use a smaller model",
    Adapter.lora: "use model.dtype=bfloat16, tuning=qlora or a smaller model",
}


def explain_validation_memory(epoch: int) -> str:
    """Which setting to lower if memory ran out between epochs."""
    return (
        f"out of memory in the validation after epoch {epoch}; lower tuning.batch_tokens for "
        "answers, tuning.validation_replies or evaluation.max_new_tokens for replies that are "
        "written out, or set tuning.validate=false"
    )


def explain_copy_memory(epoch: int) -> str:
    """What to do without if memory ran out in the copy of the best weights."""
    return (
        f"out of memory in the copy of the weights of epoch {epoch} that tuning.select=best keeps; "
        "leave it out, or use tuning=lora or a smaller model"
    )


def explain_memory(
    config: TuningConfig, longest: int, step: int, steps: int, *, device: str
) -> str:
    """Which setting to lower; `longest` is the step's largest forward pass in tokens."""
    bound = config.tokens_a_pass(device)
    advice = [
        f"lower tuning.batch_tokens (now {bound})"
        if longest <= bound
        else f"lower tuning.max_length, since one row alone has {longest} tokens"
    ]
    if not config.gradient_checkpointing:
        advice.append("set tuning.gradient_checkpointing=true")
    advice.append(_INSTEAD[config.adapter])
    return (
        f"out of memory at step {step} of {steps}, in a pass of at most {longest} tokens; "
        f"{', or '.join(advice)}"
    )
