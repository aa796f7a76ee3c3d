"""Passes of training as CUDA graphs: one launch instead of thousands, for which the device waits.

A graph has fixed shapes and fixed places in memory. Packs are padded to a few shapes
(padding.py), and a shape has a graph of its forward and backward pass; what is in a pack is copied
to where its graph reads it, and gradients are added to where they always are. All graphs share one
piece of memory (docs/decisions/0040-speed-of-tuning.md).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import torch

from caft.kernels.lora import fused_adapters, refresh_adapters
from caft.kernels.packed_attention import runs_alone
from caft.kernels.recording import recorded
from caft.kernels.varlen import can_attend_at_once
from caft.protocols import CausalLM
from caft.trainers.sharding import is_sharded
from caft.tune.batches import Shape, TrainingPack
from caft.tune.config import Adapter, TuningConfig

log = logging.getLogger(__name__)

# Between a pass and its replay, of loss and of the gradient's norm: both are bfloat16's rounding.
_MOST_APART = 0.01
_MOST_GRAPHS = 32
# Of a job: to record and to compare takes as long as three.
FEWEST_STEPS = 4
# Of the tokens and the trained tokens that a pass needs, in the graph of a larger one.
_MOST_WASTED, _MOST_TRAINED = 1.25, 2
Run = Callable[[TrainingPack], torch.Tensor]
"""Forward and backward pass; out: the loss, detached."""


def why_launched(
    model: CausalLM, config: TuningConfig, dtype: torch.dtype, devices: int
) -> str | None:
    """Why the passes of `model` cannot be graphs; None if that can be tried."""
    dropout = any(isinstance(each, torch.nn.Dropout) and each.p > 0 for each in model.modules())
    query = torch.empty(0, 8, dtype=dtype, device=model.device)
    reasons = {
        "several devices train": devices > 1,
        "trainer.strategy=fsdp divides the weights": is_sharded(model),
        "the base is in 4 bits": config.adapter is Adapter.qlora,
        "tuning.gradient_checkpointing runs layers again": config.gradient_checkpointing,
        "there is dropout": dropout,
        "rows run one by one": runs_alone(model),
        "torch has no attention of packed rows in one call here": not can_attend_at_once(query),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A pass whose inputs are `static`: `replay` runs it again and writes its `loss`."""

    static: TrainingPack
    replay: Callable[[], object]
    loss: torch.Tensor

    def __call__(self, item: TrainingPack) -> torch.Tensor:
        """The same with what is in `item`."""
        for place, value in zip(_tensors_of(self.static), _tensors_of(item), strict=True):
            place.copy_(value, non_blocking=True)
        self.replay()
        return self.loss


Record = Callable[[Run, TrainingPack, bool], Recorded]
"""Records a pass of static inputs; true: nothing else is recorded now."""


class GraphRecorder:
    """Records CUDA graphs that share their memory, of passes of at most so many tokens."""

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self.room = 0
        torch.cuda.empty_cache()  # what is there later is what passes have left

    def __call__(self, run: Run, static: TrainingPack, is_first: bool) -> Recorded:
        """RuntimeError if something in the pass must wait for the device."""
        if is_first:
            self.pool = torch.cuda.graph_pool_handle()
            self.room = self.room or self._plan_room(static)
        graph = torch.cuda.CUDAGraph()
        with recorded(graph, self.pool):
            if is_first:
                # One piece, of which all graphs take theirs: of pieces that were made for smaller
                # passes none would do for a larger one.
                torch.empty(self.room, dtype=torch.uint8, device="cuda")
            loss = run(static)
        return Recorded(static, graph.replay, loss)

    def _plan_room(self, static: TrainingPack) -> int:
        """Bytes that the largest pass needs, judged by those that this one has left.

        Not more than twice as many: rows may be too short for a pass as large as allowed.
        """
        passed = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        free, _ = torch.cuda.mem_get_info()
        if free < passed:
            raise RuntimeError("there is too little memory for graphs beside other passes")
        larger = self.most_tokens / static.pack.input_ids.numel()
        return min(free, int(passed * min(max(larger, 1), 2)))


class Replays:
    """Runs the passes of a job, and replays those of a shape that was recorded.

    The first replay of the job is compared with its pass, when a step has changed the weights, and
    with another pack than was recorded. Before, passes are launched, and recorded when they have
    been, if the first one has reached every weight: one that it has not has no gradient, and a
    gradient of 0 would still move it, by its decay and by what the optimizer remembers.
    """

    def __init__(
        self, run: Run, model: CausalLM, weights: Sequence[torch.nn.Parameter], record: Record
    ) -> None:
        self.run, self.record = run, record
        self.weights = weights
        self.grads: list[torch.Tensor] = []  # those of the first pass, which stay where they are
        self.adapters = fused_adapters(model)
        self.is_on, self.is_proven = True, False
        self._recorded: dict[Shape, Recorded] = {}
        self._wasted: Counter[Shape] = Counter()
        self._passes = 0

    def choose(self, shape: Shape) -> Shape:
        """`shape`, or the next larger one that is recorded.

        That one is taken until the tokens that it wastes cost more than to record another: about
        two passes.
        """
        larger = [
            each
            for each in self._recorded
            if each.holds(shape)
            and each.tokens <= _MOST_WASTED * shape.tokens
            and each.trained <= _MOST_TRAINED * shape.trained
        ]
        if not larger or self._wasted[shape] > 2 * shape.tokens:
            return shape
        chosen = min(larger, key=astuple)
        self._wasted[shape] += chosen.tokens - shape.tokens
        return chosen

    def start_step(self) -> None:
        """Gradients are zero again, in their places; before they have any, there are none."""
        if self.grads:
            torch._foreach_zero_(self.grads)
        for place, weight in enumerate(self.weights):
            weight.grad = self.grads[place] if self.grads else None
        self.refresh()
        self._passes = 0

    def refresh(self) -> None:
        """What graphs read of the weights, if those have changed."""
        refresh_adapters(self.adapters)

    def __call__(self, item: TrainingPack) -> torch.Tensor:
        """The pass of `item`; its gradients are added. Out: its loss, until the next pass."""
        assert item.shape is not None
        own = self._recorded.get(item.shape)
        is_first, self._passes = self._passes == 0, self._passes + 1
        if self.is_proven and own is None:
            own = self._try_to_record(item)
        if own is not None and self.is_proven:
            return own(item)
        if own is not None and is_first:
            return self._prove(own, item)
        loss = self.run(item)
        if self.is_on and not self.grads:
            self._keep_gradients()
        if own is None:
            self._try_to_record(item)
        return loss

    def _keep_gradients(self) -> None:
        grads = [weight.grad for weight in self.weights]
        self.grads = [grad for grad in grads if grad is not None]
        if missing := len(grads) - len(self.grads):
            self.grads = []
            self.give_up(f"a pass does not reach {missing} of {len(grads)} weights")

    def _try_to_record(self, item: TrainingPack) -> Recorded | None:
        if not self.is_on or len(self._recorded) == _MOST_GRAPHS:
            return None
        try:
            own = self.record(self.run, _static_copy(item), not self._recorded)
        except (RuntimeError, TypeError, ValueError) as error:
            self.give_up(f"a pass cannot be recorded ({str(error).partition(chr(10))[0]})")
            return None
        assert item.shape is not None
        self._recorded[item.shape] = own
        return own

    def _prove(self, own: Recorded, item: TrainingPack) -> torch.Tensor:
        loss = self.run(item)
        expected = torch.stack([loss, self._norm()]).tolist()
        torch._foreach_zero_(self.grads)
        found = torch.stack([own(item), self._norm()]).tolist()
        self.is_proven = all(map(_is_close, found, expected))
        if not self.is_proven:
            self.give_up(f"a replay's loss and norm are {found}, and not {expected}")
            torch._foreach_zero_(self.grads)
            return self.run(item)
        return own.loss

    def _norm(self) -> torch.Tensor:
        return torch.nn.utils.get_total_norm(self.grads).float()

    def give_up(self, reason: str) -> None:
        """Run all passes launch by launch from now on; `reason` goes into the log."""
        log.info("passes are launched kernel by kernel from now on: %s", reason)
        self.is_on = False
        self._recorded.clear()

    def make_room(self) -> None:
        """Free the memory of graphs, where there is not much; shapes are then recorded again."""
        if self.weights[0].is_cuda:
            free, whole = torch.cuda.mem_get_info()
            if free < whole / 2:
                self._recorded.clear()


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= _MOST_APART * abs(other)


def _static_copy(item: TrainingPack) -> TrainingPack:
    """Copies of the tensors of `item`, and nothing else of it that a pass could read."""
    pack = item.pack
    device = pack.input_ids.device
    static = replace(
        pack,
        input_ids=pack.input_ids.clone(),
        position_ids=pack.position_ids.clone(),
        layout=pack.layout.without_runs(device),
        starts=(),
    )
    assert item.shares is not None
    return replace(
        item,
        pack=static,
        positions=item.positions.clone(),
        labels=item.labels.clone(),
        shares=item.shares.clone(),
        weight=math.nan,
    )


def _tensors_of(item: TrainingPack) -> list[torch.Tensor]:
    pack = item.pack
    assert item.shares is not None
    sequences = pack.layout.sequences(pack.input_ids.device)
    starts = [each for part in sequences for each in (part.queries, part.keys)]
    return [
        pack.input_ids, pack.position_ids, *starts, item.positions, item.labels, item.shares
    ]  # fmt: skip
