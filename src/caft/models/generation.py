"""Greedy replies, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import StoppingCriteria, StoppingCriteriaList


class Reply(NamedTuple):
    """What a model wrote: text without special tokens, and the tokens it took, end included."""

    text: str
    tokens: int


class _StopAfterMarker(StoppingCriteria):  # type: ignore[misc]
    """Ends a row as soon as its reply holds a closed [[...]]: after it nothing can count."""

    def __init__(self, tokenizer: Any, prompt_length: int) -> None:
        self.tokenizer = tokenizer
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        # The marker may be spread over several tokens: only the last few can have closed it.
        tails = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :][:, -16:])
        done = [has_closed_marker(tail) for tail in tails]
        return torch.tensor(done, device=input_ids.device)


def has_closed_marker(tail: str) -> bool:
    """Whether a reply's tail ends a [[...]] marker."""
    opened = tail.rfind("[[")
    return opened >= 0 and "]]" in tail[opened + 2 :]


def generate_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_ids: Sequence[int],
    stop_after_marker: bool = True,
) -> list[Reply]:
    """Greedy replies to token prompts, in one left-padded batch, in order.

    A reply ends with one of `end_ids`, after its first closed marker, or at `max_new_tokens`.
    """
    width = max(len(prompt) for prompt in prompts)
    # Padding that is no end token: a row that ended is told from one that was filled up.
    pad = next(
        token
        for token in (tokenizer.pad_token_id, *range(len(end_ids) + 1))
        if token is not None and token not in end_ids
    )
    device = model.device
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    stopping = [_StopAfterMarker(tokenizer, width)] if stop_after_marker else []
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(end_ids),
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList(stopping),
        )
    return [_read_reply(row, tokenizer, end_ids, pad) for row in written[:, width:].tolist()]


def _read_reply(row: list[int], tokenizer: Any, end_ids: Sequence[int], pad: int) -> Reply:
    ends = [position for position, token in enumerate(row) if token in end_ids]
    if ends:
        written = row[: ends[0] + 1]
    else:
        # A row that a marker ended is filled up with padding while others go on.
        length = len(row)
        while length and row[length - 1] == pad:
            length -= 1
        written = row[:length]
    return Reply(tokenizer.decode(written, skip_special_tokens=True), len(written))
