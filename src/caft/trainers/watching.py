"""How far a model has come inside a pass, for a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

from pytorch_lightning import LightningModule

from caft.kernels.layers import layers_of
from caft.protocols import CausalLM


class StayingModule(LightningModule):  # type: ignore[misc]
    """Stays on its device to the end.

    When a Trainer is done, it moves its module to the CPU: five seconds and as much memory for the
    weights of 3B parameters, which are then dropped.
    """

    def cpu(self) -> Self:
        """Not moved."""
        return self


class PredictingModule(StayingModule):
    """What a stage's batches go through.

    While a batch is in work, it tells `moved` how much of it is done, in questions, and a note
    for the bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved: Callable[..., None] = lambda _in_work, _note="": None

    def watching(self) -> AbstractContextManager[None]:
        """What has to be open for `moved` to be told."""
        return nullcontext()


@contextmanager
def watch_layers(model: CausalLM, passed: Callable[[float], None]) -> Iterator[None]:
    """`passed` is called behind every decoder layer of the body's forward passes.

    With the share of the pass that is behind it, above 0 and at most 1.
    """
    layers = layers_of(model)

    def watch(number: int) -> Callable[..., None]:
        return lambda *_: passed(number / len(layers))

    hooks = [
        layer.register_forward_hook(watch(number)) for number, layer in enumerate(layers, start=1)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
