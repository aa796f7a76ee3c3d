"""What is trained: low-rank adapters through peft, or every weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.models.lean_lora import is_lean, make_lora_lean

ADAPTER_CONFIG = "adapter_config.json"


def add_lora(
    model: Any,
    *,
    r: int,
    alpha: int,
    dropout: float,
    modules: Sequence[str],
    use_dora: bool,
    use_rslora: bool,
) -> Any:
    """`model` with fresh adapters on `modules`, or on all linear layers but the output head.

    Draws on torch's global generator. UserError where a module name fits nothing.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(modules) or "all-linear",
        use_dora=use_dora,
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"tuning.lora.modules is {list(modules)}: {str(error).splitlines()[0]}"
        ) from error
    make_lora_lean(adapted)
    return adapted


@contextmanager
def compute_in_weights_dtype(model: Any) -> Iterator[None]:
    """Forward passes of the body multiply in the base model's dtype.

    Adapters keep float32 weights, since an update of a thousandth is lost in bfloat16; but peft
    would also copy every activation to float32 for them. Under autocast the small weights are
    cast instead, once a pass. Lean adapters cast by themselves.
    """
    import torch

    if model.dtype != torch.bfloat16 or is_lean(model):
        yield
        return
    with ExitStack() as stack:
        if hasattr(model, "peft_config"):
            from peft.helpers import disable_input_dtype_casting

            stack.enter_context(disable_input_dtype_casting(model))
        stack.enter_context(torch.autocast(model.device.type, dtype=torch.bfloat16))
        yield


def load_adapter(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """`model` with the adapter that `folder` holds."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    make_lora_lean(adapted)
    return adapted


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter rather than a whole model."""
    return (folder / ADAPTER_CONFIG).exists()


def count_parameters(model: Any) -> tuple[int, int]:
    """All parameters and the trainable ones."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)
