"""Linear layers whose weights are stored in the layout that a CPU's kernels read.

Ordinarily every product first brings its bfloat16 weights into the blocks that oneDNN multiplies:
5% of the time of 2,000 tokens where caches are quiet and a fifth where they are not, and up to
half of the time of a token that is generated alone. float32 products go to another library, which
takes twice as long on some processors. Here weights are reordered once, layer by layer, and the
ordinary ones are released: the model needs no more memory, but can neither be tuned nor saved.

An MLP with a gate then has no passes between its products: the activation, and the product of both
halves, are computed where the numbers of a product are written. On a processor with matrix tiles
they were an eighth of the MLP's time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from caft.kernels.forwards import replace_forwards
from caft.kernels.memory import multiplies_bfloat16, release_memory, return_freed_memory
from caft.kernels.swiglu import make_large
from caft.protocols import CausalLM

log = logging.getLogger(__name__)
# Bytes of ordinary weights that may wait to be returned to the system.
_MOST_FREED = 64 << 20


def reorder_weights(model: CausalLM) -> None:
    """Reorder the weights of `model`, adapters and all, for inference on a CPU.

    Unchanged are: everything on other devices, dtypes that the CPU has no units for, layers of
    other classes, weights that have a second reader (a head that is the embedding, an adapter that
    is more than LoRA, a Mamba that multiplies by them itself), and the whole model where this torch
    has no such functions.
    """
    if model.device.type != "cpu":
        return
    layers = _only_called(model, list(_reorderable(model)))
    if not layers:
        return
    if not _computes_the_same(layers[0]):
        log.debug("linear layers keep the order of their weights: this torch computes otherwise")
        return
    freed = 0
    for layer in layers:
        freed += layer.weight.nbytes
        layer.weight = torch.nn.Parameter(_reorder(layer.weight), requires_grad=False)
        vars(layer)["forward"] = _Reordered(layer)
        if freed > _MOST_FREED:
            return_freed_memory()
            freed = 0
    _fuse_gates(model, {id(layer) for layer in layers})
    # The file that weights are mapped from stays in memory for as long as one of them is.
    for weight in chain(model.parameters(), model.buffers()):
        if not weight.is_mkldnn:
            weight.data = weight.data.clone()
    release_memory()


def _reorderable(model: CausalLM) -> Iterator[torch.nn.Linear]:
    dtypes = {torch.float32} | ({torch.bfloat16} if multiplies_bfloat16("cpu") else set())
    modules = list(model.modules())
    readers = Counter(id(weight) for module in modules for weight in module._parameters.values())
    kept = _layers_of_adapters(modules)
    for layer in modules:
        if (
            type(layer) is torch.nn.Linear
            and id(layer) not in kept
            and layer.weight.dtype in dtypes
            and readers[id(layer.weight)] == 1
        ):
            yield layer


class _Reads(TorchFunctionMode):
    """Within its body, `tensors` are the ids of those that another one was made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's hook: every function of tensors, and every look at one's dtype or shape."""
        said = func(*args, **(kwargs or {}))
        if any(isinstance(each, torch.Tensor) for each in tree_leaves(said)):
            self.tensors.update(map(id, tree_leaves((args, kwargs))))
        return said


@torch.no_grad()
def _only_called(model: CausalLM, layers: Sequence[torch.nn.Linear]) -> list[torch.nn.Linear]:
    """Those of `layers` whose weights nothing but the layer itself reads, in a short pass.

    Or the adapter around it, which is known to call it.
    """
    if not layers:
        return []
    adapters = {id(getattr(each, "base_layer", None)): each for each in model.modules()}
    called = [vars(adapters.get(id(layer), layer)) for layer in layers]
    forwards = [each.get("forward") for each in called]
    for layer, place in zip(layers, called, strict=True):
        place["forward"] = partial(linear, weight=layer.weight.detach(), bias=layer.bias)
    try:
        with _Reads() as read:
            model(input_ids=torch.tensor([[1, 2]]), use_cache=False)
    finally:
        for place, forward in zip(called, forwards, strict=True):
            del place["forward"]
            if forward is not None:
                place["forward"] = forward
    return [layer for layer in layers if id(layer.weight) not in read.tensors]


def _layers_of_adapters(modules: Sequence[torch.nn.Module]) -> set[int]:
    """Ids of adapters' own layers, and of what they wrap unless it is only called, as LoRA does."""
    if not any(hasattr(module, "base_layer") for module in modules):
        return set()
    from peft.tuners.lora import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapters = [module for module in modules if isinstance(module, BaseTunerLayer)]
    called = {
        id(adapter.base_layer)
        for adapter in adapters
        if type(adapter) is Linear and not adapter.lora_variant
    }
    return {id(inner) for adapter in adapters for inner in adapter.modules()} - called


def _fuse_gates(model: CausalLM, reordered: set[int]) -> None:
    """Of every MLP silu(gate) * up, known by its output, whose layers are `reordered`."""

    def has_form(mlp: torch.nn.Module) -> bool:
        layers = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
        return all(id(layer) in reordered for layer in layers)

    replace_forwards(model, has_form, _is_plain_gate, _Gated)


@torch.no_grad()
def _is_plain_gate(mlp: Any) -> bool:
    weight: torch.Tensor = mlp.gate_proj.weight
    x = torch.linspace(-1, 2, 2 * weight.shape[1]).view(2, -1).to(weight.dtype)
    # So large that silu differs from other activations.
    x *= 4 / mlp.gate_proj(x).abs().max()
    try:
        outputs = [(_Gated(mlp)(each), mlp(each)) for each in (x, make_large(mlp, x))]
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(_are_equal(fused, usual, weight.shape[0]) for fused, usual in outputs)


class _Reordered:
    """The `forward` of a linear layer with reordered weights; it has no backward pass."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self.layer = layer

    def __call__(
        self,
        x: torch.Tensor,
        *,
        activation: str = "none",
        times: torch.Tensor | None = None,
        plus: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Of activation, times and plus at most one; all before anything is rounded."""
        weight, bias = self.layer.weight, self.layer.bias
        # Under autocast activations may be float32.
        x = x.to(weight.dtype)
        if times is None and plus is None:
            return _multiply(x, weight, bias, activation)
        other, kind = (plus, "add") if times is None else (times, "mul")
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, weight, bias, kind
        )
        return output


class _Gated:
    """The `forward` of an MLP: down(silu(gate(x)) * up(x))."""

    def __init__(self, mlp: Any) -> None:
        self.mlp = mlp

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mlp = self.mlp
        output: torch.Tensor = mlp.down_proj(
            mlp.up_proj(x, times=mlp.gate_proj(x, activation="swish"))
        )
        return output


def _reorder(weight: torch.Tensor) -> torch.Tensor:
    reordered: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return reordered


def _multiply(
    x: torch.Tensor, reordered: torch.Tensor, bias: torch.Tensor | None, activation: str = "none"
) -> torch.Tensor:
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        x, reordered, bias, activation, [], ""
    )
    return output


@torch.no_grad()
def _computes_the_same(layer: torch.nn.Linear) -> bool:
    # Both functions are torch's own, for its compiler: another version may have other ones.
    weight, bias = layer.weight, layer.bias
    x = torch.linspace(-1, 2, 2 * layer.in_features).view(2, -1).to(weight.dtype)
    try:
        output = _multiply(x, _reorder(weight), bias)
    except (AttributeError, RuntimeError):
        return False
    expected = linear(x, weight, bias)
    return _are_equal(output, expected, layer.in_features)


def _are_equal(output: torch.Tensor, expected: torch.Tensor, terms: int) -> bool:
    # Sums are float32 in both dtypes, and taken in another order.
    rounding = 4 * torch.finfo(output.dtype).eps + terms**0.5 * torch.finfo(torch.float32).eps
    return torch.allclose(output, expected, rtol=0, atol=rounding * float(expected.abs().max()))
