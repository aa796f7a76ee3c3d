"""Where a model's layers are, whatever its architecture calls them."""

from __future__ import annotations

from torch import nn

from caft.protocols import CausalLM


def layers_of(model: CausalLM) -> list[nn.Module]:
    """The decoder layers, in their order; none where the model has no list of them."""
    stacks = (each for each in model.get_decoder().children() if isinstance(each, nn.ModuleList))
    return list(next(stacks, ()))
