"""Low-rank adapters with as few products, copies and casts as possible.

peft runs an adapter separately from its layer: the result is scaled and added and, if adapters are
float32 and the model is bfloat16, every activation is cast for it. Here layers and adapters are one
function: the layer's product is accumulated into the adapter's, in the layer's dtype, adapters are
cast once an optimizer step, and no gradient of a frozen weight is ever made. Layers that read the
same activations (queries, keys and values; gate and up) run together when the first of them is
called: their adapters read the activations in one product, and their gradients of them are
accumulated rather than added up. What peft can do beyond plain LoRA (DoRA, dropout, several
adapters) stays with peft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from caft.protocols import CausalLM

if TYPE_CHECKING:
    from peft.tuners.lora import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

Adapter = tuple[torch.Tensor, torch.Tensor, float]
_READ_THE_SAME = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(frozen=True, slots=True)
class _Cast:
    """Adapters in the dtype that layers compute in.

    `a` [ranks, inputs] holds those of all layers, scaled, and `b` [outputs, rank] each layer's;
    `ranks` are the rows of every layer in `a`, and `scaling` [ranks, 1] is float32.
    """

    a: torch.Tensor
    b: tuple[torch.Tensor, ...]
    ranks: tuple[slice, ...]
    scaling: torch.Tensor


class _LayersWithAdapters(torch.autograd.Function):
    """y_i = x W_i^T + bias_i + scaling_i (x A_i^T) B_i^T; gradients of x, A_i and B_i."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        layers: Sequence[torch.nn.Linear],
        cast: _Cast,
        *adapters: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """In: x [..., inputs]; `adapters` are A [rank, inputs] and B [outputs, rank] in turn."""
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ cast.a.T
        ctx.save_for_backward(rows, inner)
        ctx.layers, ctx.cast, ctx.shape, ctx.dtype = layers, cast, x.shape, adapters[0].dtype
        return tuple(
            _add_layer(layer, rows, inner[:, ranks] @ b.T).view(*x.shape[:-1], -1)
            for layer, b, ranks in zip(layers, cast.b, cast.ranks, strict=True)
        )

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Frozen weights and their biases get none."""
        rows, inner = ctx.saved_tensors
        cast: _Cast = ctx.cast
        grads = tuple(grad.reshape(-1, grad.shape[-1]) for grad in grads)
        products = [grad @ b for grad, b in zip(grads, cast.b, strict=True)]
        grad_inner = products[0] if len(products) == 1 else torch.cat(products, dim=1)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_inner @ cast.a
            for grad, layer in zip(grads, ctx.layers, strict=True):
                grad_x.addmm_(grad, layer.weight)
            grad_x = grad_x.view(ctx.shape)
        grad_a = (grad_inner.T @ rows).to(ctx.dtype).mul_(cast.scaling)
        grad_adapters = [
            each
            for grad, ranks in zip(grads, cast.ranks, strict=True)
            for each in (grad_a[ranks], (inner[:, ranks].T @ grad).T.to(ctx.dtype))
        ]
        return grad_x, None, None, *grad_adapters


def _add_layer(layer: torch.nn.Linear, rows: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """`output` of the adapter, plus that of the layer; all but its bias before it is rounded.

    Were the adapter's added to a rounded output, it would be lost wherever it is less than half of
    that one's last digit: most of what a fresh adapter says, and always.
    """
    if layer.weight.is_mkldnn:  # reordered for inference
        added: torch.Tensor = layer(rows, plus=output)
        return added
    output.addmm_(rows, layer.weight.T)
    return output if layer.bias is None else output.add_(layer.bias)


class _Fused:
    """The `forward` of a plain LoRA layer.

    The first of several that read the same computes them all; the others return their part.
    """

    def __init__(self, layer: Linear) -> None:
        self.layer = layer
        self.others: tuple[_Fused, ...] = ()
        self._computed: tuple[torch.Tensor, torch.Tensor] | None = None
        self._cast: tuple[tuple[object, ...], _Cast] | None = None

    def __call__(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        computed, self._computed = self._computed, None
        if self.is_off or args or kwargs:
            plain: torch.Tensor = type(self.layer).forward(self.layer, x, *args, **kwargs)
            return plain
        if computed is not None and computed[0] is x:
            return computed[1]
        together = (self, *(each for each in self.others if not each.is_off))
        adapters = [each.adapter for each in together]
        compute: Callable[..., tuple[torch.Tensor, ...]] = _LayersWithAdapters.apply
        outputs = compute(
            x,
            [each.layer.base_layer for each in together],
            self._cast_for(x.dtype, adapters),
            *(matrix for a, b, _ in adapters for matrix in (a, b)),
        )
        for each, output in zip(together[1:], outputs[1:], strict=True):
            each._computed = (x, output)
        return outputs[0]

    @property
    def is_off(self) -> bool:
        """Whether the layer must do something else now: its adapter is merged or disabled."""
        return bool(self.layer.disable_adapters or self.layer.merged)

    @property
    def adapter(self) -> Adapter:
        """A, B, and what their product is multiplied by."""
        layer, name = self.layer, self.layer.active_adapters[0]
        return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]

    def _cast_for(self, dtype: torch.dtype, adapters: Sequence[Adapter]) -> _Cast:
        """Made again when a weight has changed."""
        states = (
            (a.data_ptr(), a._version, b.data_ptr(), b._version, scaling)
            for a, b, scaling in adapters
        )
        state = (dtype, *states)
        if self._cast is None or self._cast[0] != state:
            self._cast = (state, _cast(adapters, dtype))
        return self._cast[1]


# What is cast in a forward pass without gradients is read by one with them later.
@torch.inference_mode(False)
@torch.no_grad()
def _cast(adapters: Sequence[Adapter], dtype: torch.dtype) -> _Cast:
    stacked = torch.cat([a for a, _, _ in adapters])
    ends = accumulate((len(a) for a, _, _ in adapters), initial=0)
    ranks = tuple(slice(start, end) for start, end in pairwise(ends))
    scaling = stacked.new_empty(len(stacked), 1)
    for of_layer, (_, _, value) in zip(ranks, adapters, strict=True):
        scaling[of_layer] = value
    return _Cast(
        a=stacked.mul_(scaling).to(dtype),
        b=tuple(b.detach().to(dtype) for _, b, _ in adapters),
        ranks=ranks,
        scaling=scaling,
    )


def fuse_lora(model: CausalLM) -> None:
    """Let the LoRA layers of a peft model compute in one function, where all of them are plain.

    Only how they compute changes: names, weights and files stay peft's.
    """
    from peft.tuners.lora import Linear

    if not all(map(_is_plain, _adapter_layers(model))):
        return
    for parent in model.modules():
        fused = {
            name: _Fused(layer)
            for name, layer in parent.named_children()
            if isinstance(layer, Linear)
        }
        for name, each in fused.items():
            each.layer.forward = each
            for names in _READ_THE_SAME:
                if name == names[0]:
                    each.others = tuple(fused[other] for other in names[1:] if other in fused)


def has_fused_lora(model: CausalLM) -> bool:
    """Whether all adapter layers of `model` compute in one function, in their layers' dtype."""
    layers = _adapter_layers(model)
    return bool(layers) and all("forward" in vars(layer) for layer in layers)


def _adapter_layers(model: CausalLM) -> list[BaseTunerLayer]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]


def _is_plain(layer: BaseTunerLayer) -> bool:
    from peft.tuners.lora import Linear

    if type(layer) is not Linear:
        return False
    names = list(layer.lora_A)
    return (
        type(layer.base_layer) is torch.nn.Linear
        and layer.active_adapters == names
        and len(names) == 1
        and names[0] not in layer.lora_variant
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
        and layer.lora_B[names[0]].bias is None
        and not layer.base_layer.weight.requires_grad
    )
