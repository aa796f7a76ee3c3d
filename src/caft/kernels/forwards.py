"""Other ways to compute what modules compute, where they compute nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from caft.protocols import CausalLM


def replace_forwards(
    model: CausalLM | torch.nn.Module,
    has_form: Callable[[Any], bool],
    is_plain: Callable[[Any], bool],
    make: Callable[[Any], Callable[..., torch.Tensor]],
) -> None:
    """Give modules of `model` that have the form, and are plain, the `forward` that `make` makes.

    Names tell nothing about what is computed: of every class the first one is tried.
    """
    plain: dict[type, bool] = {}
    for module in model.modules():
        if not has_form(module):
            continue
        kind = type(module)
        if kind not in plain:
            plain[kind] = is_plain(module)
        if plain[kind]:
            vars(module)["forward"] = make(module)
