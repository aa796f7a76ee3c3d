"""Models that no device holds whole: each has a part of every weight (torch's FSDP2).

A layer's weights are gathered when it runs and let go behind it. Adapters stay whole on every
device, as they are without it: their gradients are summed, and their fast layers work unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from caft.errors import UserError
from caft.kernels.layers import layers_of
from caft.models.config import Dtype
from caft.models.student import Student
from caft.protocols import CausalLM
from caft.trainers.distributed import Ranks

Tree = TypeVar("Tree")


def refuse_old_torch() -> None:
    """UserError where torch can only average the gradients of devices, and not sum them."""
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UserError(
            f"trainer.strategy=fsdp needs torch 2.8 or later, and this is {torch.__version__}; "
            "update torch, or leave trainer.strategy=ddp"
        )


def load_sharded(ranks: Ranks, student: Student, load: Callable[[Student], CausalLM]) -> CausalLM:
    """The model that `load` makes of a student, divided among all processes.

    It is read in the host's memory, once at a time: the processes of a machine take turns.
    """
    device = torch.device(student.device)
    mesh = init_device_mesh(device.type, (ranks.count,))
    own_turn = torch.cuda.current_device() if device.type == "cuda" else ranks.rank
    for turn in range(ranks.count):
        if turn == own_turn:
            model = load(on_host(student))
            adapters = {w for name, w in model.named_parameters() if "lora_" in name}
            assert isinstance(model, torch.nn.Module)
            modules: list[torch.nn.Module] = [*layers_of(model), model]
            for module in modules:
                fully_shard(module, mesh=mesh, ignored_params=adapters)
            model.to(device)
        ranks.add(0.0)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            # Losses are divided by the tokens of all devices already.
            part.set_force_sum_reduction_for_comms(True)
            part.set_gradient_divide_factor(1.0)
            # Here and not in a first pass of validation, whose tensors take no gradients.
            part.unshard()
            part.reshard()
    return model


def on_host(student: Student) -> Student:
    """The same student in the host's memory, in the dtype that it has on its device."""
    config = replace(student.config, dtype=Dtype[student.dtype])
    return replace(student, device="cpu", config=config)


def is_sharded(model: CausalLM) -> bool:
    """Whether each device has a part of the model's weights."""
    return isinstance(model, FSDPModule)


# --- States, which do not depend on the number of devices ----------------------------------------


def gather_whole(tree: Tree, ranks: Ranks) -> Tree:
    """`tree` with whole tensors on the host in the first process, where all take part; else None's.

    Tensors that are not divided stay as they are.
    """

    def gather(leaf: Any) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        whole = leaf.full_tensor().detach()
        return whole.cpu() if ranks.rank == 0 else None

    gathered: Tree = tree_map(gather, tree)
    return gathered


def divide_like(whole: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The own part of a tensor that all have whole, where `weight` is divided so."""
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(
        whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )


def copy_aside(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of each in the host's memory, where devices have none to spare.

    Own parts of divided weights stay on the device.
    """
    return {
        name: w.detach().clone() if isinstance(w, DTensor) else w.detach().to("cpu", copy=True)
        for name, w in weights.items()
    }


def read_norm(norm: torch.Tensor) -> float:
    """A norm over the weights of all devices."""
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()  # type: ignore[attr-defined, unused-ignore]
    return float(norm)


# --- Passes, which all devices run together ------------------------------------------------------


@contextmanager
def together(model: CausalLM, ranks: Ranks) -> Iterator[None]:
    """In the body a process may run as many passes without gradients as it likes.

    The others run along until all have done theirs. SystemExit in all, at the same pass, where one
    is asked to stop. Nothing happens where the model is not sharded.
    """
    if not is_sharded(model):
        yield
        return
    agreed = False

    def agree(runs: bool) -> bool:
        nonlocal agreed
        running, stop = ranks.add(float(runs), float(ranks.asked_to_stop()))
        if stop:
            agreed = True
            raise SystemExit(0)
        return running > 0

    assert isinstance(model, torch.nn.Module)
    # Before FSDP's own, which gathers.
    hook = model.register_forward_pre_hook(lambda *_: agree(True) and None, prepend=True)
    try:
        yield
    except SystemExit:
        if not agreed:
            ranks.add(0.0, 1.0)
        raise
    finally:
        hook.remove()
    while agree(False):
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device))
