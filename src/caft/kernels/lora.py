"""Low-rank adapters with as few products, copies and casts as possible.

peft runs an adapter separately from its layer: the result is scaled and added and, if adapters are
float32 and the model is bfloat16, every activation is cast for it. Here layers and adapters are one
function: the adapter's product is accumulated into the layer's, in the layer's dtype, adapters are
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
_MULTIPLIES_INTO_FLOAT32 = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)
_READ_THE_SAME = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(slots=True)
class _Cast:
    """Adapters in the dtype that layers compute in.

    `a` [ranks, inputs] holds those of all layers, scaled, and `b` [outputs, rank] each layer's;
    `ranks` are the rows of every layer in `a`, and `scaling` [ranks, 1] is float32. `versions` are
    those of the weights that were cast.
    """

    adapters: tuple[Adapter, ...]
    a: torch.Tensor
    b: tuple[torch.Tensor, ...]
    ranks: tuple[slice, ...]
    scaling: torch.Tensor
    versions: tuple[int, ...] = ()

    @classmethod
    @torch.inference_mode(False)
    @torch.no_grad()
    def make(cls, dtype: torch.dtype, adapters: tuple[Adapter, ...]) -> _Cast:
        """Of `adapters`, in `dtype`."""
        ends = accumulate((len(a) for a, _, _ in adapters), initial=0)
        ranks = tuple(slice(start, end) for start, end in pairwise(ends))
        first = adapters[0][0]
        scaling = first.new_empty(ranks[-1].stop, 1)
        for of_layer, (_, _, value) in zip(ranks, adapters, strict=True):
            scaling[of_layer] = value
        cast = cls(
            adapters=adapters,
            a=first.new_empty(ranks[-1].stop, first.shape[1], dtype=dtype),
            b=tuple(torch.empty_like(b, dtype=dtype) for _, b, _ in adapters),
            ranks=ranks,
            scaling=scaling,
        )
        _recast([cast])
        return cast

    @property
    def parts_of_a(self) -> list[torch.Tensor]:
        """Every layer's."""
        return [self.a[ranks] for ranks in self.ranks]

    @property
    def newest_versions(self) -> tuple[int, ...]:
        """Where the weights are, and how often they have been changed there."""
        return tuple(
            number
            for a, b, _ in self.adapters
            for number in (a.data_ptr(), a._version, b.data_ptr(), b._version)
        )

    @property
    def is_stale(self) -> bool:
        """Whether a weight has changed since."""
        return self.versions != self.newest_versions

    def fits(self, dtype: torch.dtype, adapters: tuple[Adapter, ...]) -> bool:
        """Whether it is one of `adapters` in `dtype`, stale or not."""
        return (
            (self.a.dtype, self.a.device) == (dtype, adapters[0][0].device)
            and len(self.adapters) == len(adapters)
            and all(
                own[0] is other[0] and own[1] is other[1] and own[2] == other[2]
                for own, other in zip(self.adapters, adapters, strict=True)
            )
        )


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
            _layer_and_adapter(layer, rows, inner[:, ranks], b).view(*x.shape[:-1], -1)
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
        grad_a = _product(grad_inner.T, rows, ctx.dtype).mul_(cast.scaling)
        grad_adapters = [
            each
            for grad, ranks in zip(grads, cast.ranks, strict=True)
            for each in (grad_a[ranks], _gradient_of_b(grad, inner[:, ranks], ctx.dtype))
        ]
        return grad_x, None, None, *grad_adapters


def _product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In `dtype`; on CUDA its sums are not rounded to the factors' dtype before."""
    if left.is_cuda and dtype == torch.float32 != left.dtype and _MULTIPLIES_INTO_FLOAT32:
        return torch.mm(left, right, out_dtype=dtype)  # type: ignore[call-overload, no-any-return, unused-ignore]
    return (left @ right).to(dtype)


def _gradient_of_b(grad: torch.Tensor, inner: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if grad.is_cuda:
        return _product(grad.T, inner, dtype)
    return _product(inner.T, grad, dtype).T  # a third faster on a CPU


def _layer_and_adapter(
    layer: torch.nn.Linear, rows: torch.Tensor, inner: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    # The wide product adds to the narrow one before it is rounded: added afterwards, what a fresh
    # adapter says is less than half of an output's last digit, and lost. On CUDA it is faster, too:
    # the narrow product would have to read and write the other's output.
    if layer.weight.is_mkldnn:
        reordered: torch.Tensor = layer(rows, plus=inner @ b.T)
        return reordered
    own = inner @ b.T if layer.bias is None else torch.addmm(layer.bias, inner, b.T)
    return own.addmm_(rows, layer.weight.T)


class _Fused:
    """The `forward` of a plain LoRA layer.

    The first of several that read the same computes them all; the others return their part.
    """

    def __init__(self, layer: Linear) -> None:
        self.layer = layer
        self.others: tuple[_Fused, ...] = ()
        self._computed: tuple[torch.Tensor, torch.Tensor] | None = None
        self._cast: _Cast | None = None

    def __call__(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        computed, self._computed = self._computed, None
        if self.is_off or args or kwargs:
            plain: torch.Tensor = type(self.layer).forward(self.layer, x, *args, **kwargs)
            return plain
        if computed is not None and computed[0] is x:
            return computed[1]
        together = (self, *(each for each in self.others if not each.is_off))
        adapters = tuple(each.adapter for each in together)
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

    def _cast_for(self, dtype: torch.dtype, adapters: tuple[Adapter, ...]) -> _Cast:
        """Made again, in place, when a weight has changed."""
        if self._cast is None or not self._cast.fits(dtype, adapters):
            self._cast = _Cast.make(dtype, adapters)
        elif self._cast.is_stale:
            _recast([self._cast])
        return self._cast


def fused_adapters(model: CausalLM) -> list[_Fused]:
    """What computes the adapters of `model`; none where they are not all plain."""
    forwards = (vars(layer).get("forward") for layer in _adapter_layers(model))
    return [each for each in forwards if isinstance(each, _Fused)]


def refresh_adapters(fused: Sequence[_Fused]) -> None:
    """Cast again, in place, all adapters that have changed: for graphs, which read the casts.

    All of them together take a dozen launches; one by one they take a thousand.
    """
    _recast([each._cast for each in fused if each._cast is not None and each._cast.is_stale])


# What is cast in a forward pass without gradients is read by one with them later.
@torch.inference_mode(False)
@torch.no_grad()
def _recast(casts: Sequence[_Cast]) -> None:
    if not casts:
        return
    adapters = [each for cast in casts for each in cast.adapters]
    scaled = torch._foreach_mul([a for a, _, _ in adapters], [value for _, _, value in adapters])
    torch._foreach_copy_([part for cast in casts for part in cast.parts_of_a], scaled)
    torch._foreach_copy_(
        [part for cast in casts for part in cast.b], [b.detach() for _, b, _ in adapters]
    )
    for cast in casts:
        cast.versions = cast.newest_versions


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
