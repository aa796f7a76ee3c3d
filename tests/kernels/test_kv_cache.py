"""What a reply's rows hide is worked out once a step, and is the same as layer by layer."""

from __future__ import annotations

import pytest
import torch

from caft.kernels.kv_cache import ReplyCache, SharedPrefix

LAYERS, HEADS, SIZE = 3, 2, 8
WINDOWS = (None, 4, None)


def write(prefix_length: int, *, every_time: bool) -> list[torch.Tensor]:
    """What six steps of three layers give; a row ends after the third."""
    draw = torch.Generator().manual_seed(1)

    def tensor(tokens: int) -> torch.Tensor:
        return torch.randn(1, HEADS, tokens, SIZE, generator=draw)

    prefix = SharedPrefix(prefix_length)
    cache = ReplyCache(prefix, torch.tensor([1, 3, 7]), width=7, reply_tokens=6)
    for layer in range(LAYERS):
        prefix.keep(layer, tensor(prefix_length), tensor(prefix_length))
        cache.keep(layer, tensor(11), tensor(11))
    outputs = []
    for step in range(6):
        if step == 3:
            cache.select([0, 2])
        for layer, window in enumerate(WINDOWS):
            if every_time:
                cache._hidden.clear()
            new = [tensor(len(cache.lengths)) for _ in range(3)]
            outputs.append(cache.attend(layer, *new, scaling=0.3, sliding_window=window))
        cache.advance()
    return outputs


@pytest.mark.parametrize("prefix_length", [0, 5])
def test_masks_that_are_kept_are_those_made_for_every_layer(prefix_length: int) -> None:
    kept, made = (write(prefix_length, every_time=again) for again in (False, True))
    assert all(map(torch.equal, kept, made))
    assert len(kept) == 18
