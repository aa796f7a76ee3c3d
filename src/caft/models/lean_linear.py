"""Linear layers whose weights lie in memory as a CPU's kernels read them.

Ordinarily every product first brings its bfloat16 weights into the blocks that oneDNN multiplies:
5% of the time of 2,000 tokens where caches are quiet and a fifth where they are not, and up to
half of the time of a token that is generated alone. float32 products go to another library, which
takes twice as long on some processors. Here weights are reordered once, layer by layer, and the
ordinary ones given up for it: the model takes the memory that it took, but can neither be tuned
nor saved.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.nn.functional import linear

from caft.models.loading import multiplies_bfloat16, release_memory

# Bytes of ordinary weights that may wait to be given back to the system.
_MOST_GIVEN_UP = 64 << 20


def make_linears_lean(model: Any) -> None:
    """Reorder the weights of `model` for inference on a CPU.

    Stays as it is: everything on other devices, dtypes that the CPU has no units for, layers of
    other classes, and weights that have a second reader (a head that is the embedding).
    """
    if model.device.type != "cpu":
        return
    dtypes = {torch.float32} | ({torch.bfloat16} if multiplies_bfloat16("cpu") else set())
    readers = Counter(
        id(weight) for module in model.modules() for weight in module._parameters.values()
    )
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear
        and layer.weight.dtype in dtypes
        and readers[id(layer.weight)] == 1
    ]
    if not layers or not _says_the_same(layers[0]):
        return
    given_up = 0
    for layer in layers:
        given_up += layer.weight.nbytes
        layer.weight = torch.nn.Parameter(_reorder(layer.weight), requires_grad=False)
        setattr(layer, "forward", _Lean(layer))  # noqa: B010
        if given_up > _MOST_GIVEN_UP:
            release_memory()
            given_up = 0
    # The file that weights are mapped from stays in memory for as long as one of them is.
    for weight in model.parameters():
        if not weight.is_mkldnn:
            weight.data = weight.data.clone()
    release_memory()


class _Lean:
    """The `forward` of a linear layer with reordered weights; without a way back."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight
        # Under autocast activations may be float32.
        return _multiply(x.to(weight.dtype), weight, self.layer.bias)


def _reorder(weight: torch.Tensor) -> torch.Tensor:
    reordered: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return reordered


def _multiply(x: torch.Tensor, reordered: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    said: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, reordered, bias, "none", [], "")
    return said


@torch.no_grad()
def _says_the_same(layer: torch.nn.Linear) -> bool:
    # Both functions are torch's own, for its compiler: another version may have other ones.
    weight, bias = layer.weight, layer.bias
    x = torch.linspace(-1, 2, 2 * layer.in_features).view(2, -1).to(weight.dtype)
    try:
        said = _multiply(x, _reorder(weight), bias)
    except (AttributeError, RuntimeError):
        return False
    expected = linear(x, weight, bias)
    rounding = 4 * torch.finfo(weight.dtype).eps * float(expected.abs().max())
    return torch.allclose(said, expected, rtol=0, atol=rounding)
