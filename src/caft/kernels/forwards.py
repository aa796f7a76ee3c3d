"""Other ways to compute what modules compute, where they compute nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable
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

    Names tell nothing about what is computed: of every class, with every set of settings, the first
    one is tried.
    """
    plain: dict[Hashable, bool] = {}
    for module in model.modules():
        if not has_form(module):
            continue
        kind = _kind_of(module)
        if kind not in plain:
            plain[kind] = is_plain(module)
        if plain[kind]:
            vars(module)["forward"] = make(module)


def _kind_of(module: torch.nn.Module) -> Hashable:
    """Its class and plain settings, such as a limit that some layers have, and its parts'."""
    settings = tuple(
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | None)
    )
    parts = tuple((name, _kind_of(part)) for name, part in module.named_children())
    return type(module), settings, parts
