"""One new token of every row; on CUDA the same work is repeated as a graph.

A step of a small model is a thousand launches, which take the host several times as long as the
device needs for them. A graph repeats them all at once, as long as no shape changes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from caft.kernels.kv_cache import ReplyCache
from caft.kernels.memory import is_out_of_memory
from caft.kernels.packed_attention import Layout
from caft.kernels.packing import Pack, packed_logits
from caft.kernels.recording import recorded
from caft.kernels.row_cache import RowCache
from caft.protocols import CausalLM

log = logging.getLogger(__name__)


class TokenSteps:
    """Runs steps over the rows of a cache.

    The first one after a change of shapes is run in the ordinary way, and shows whether the model
    waits for the device anywhere, as some mixtures of experts do: then no graph can be made.
    """

    def __init__(self, model: CausalLM, cache: ReplyCache | RowCache) -> None:
        self._model, self.cache = model, cache
        self._may_repeat = isinstance(cache, RowCache)
        self._version = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._tokens = self._logits = torch.empty(0)

    def run(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits [rows, vocabulary] behind `tokens` [rows]; valid until the next step."""
        cache = self.cache
        cache.begin_step()
        if not isinstance(cache, RowCache) or not self._may_repeat:
            logits = self._compute(tokens.to(cache.device))
        elif self._version != cache.version:
            self._version, self._graph = cache.version, None
            self._tokens = tokens.to(cache.device, copy=True)
            logits = self._run_or_give_up(self._try)
        else:
            self._tokens.copy_(tokens, non_blocking=True)
            logits = self._run_or_give_up(self._repeat)
        cache.end_step()
        return logits

    def _compute(self, tokens: torch.Tensor) -> torch.Tensor:
        return step_logits(self._model, self.cache, tokens)

    def _run_or_give_up(self, run: Callable[[], torch.Tensor]) -> torch.Tensor:
        try:
            return run()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._may_repeat = False
            reason = str(error).partition("\n")[0]
            log.info("replies are written without a CUDA graph, more slowly: %s", reason)
        return self._compute(self._tokens)

    def _try(self) -> torch.Tensor:
        with _waits_are_errors():
            return self._compute(self._tokens)

    def _repeat(self) -> torch.Tensor:
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with recorded(graph):
                self._logits = self._compute(self._tokens)
            self._graph = graph
        self._graph.replay()
        return self._logits


def step_logits(
    model: CausalLM, cache: ReplyCache | RowCache, tokens: torch.Tensor
) -> torch.Tensor:
    """The logits [rows, vocabulary] behind `tokens` [rows] of a step that `cache` has begun."""
    pack = Pack(
        input_ids=tokens[None],
        position_ids=cache.positions[None],
        layout=Layout((), replies=cache),
        starts=tuple(range(len(tokens))),
    )
    return packed_logits(model, pack, torch.arange(len(tokens), device=tokens.device))


@contextmanager
def _waits_are_errors() -> Iterator[None]:
    """In the body, what waits for the device raises RuntimeError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode calls itself a prototype
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
