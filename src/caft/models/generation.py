"""Greedy replies, many at once; where one ends, the next prompt takes its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from caft.errors import UserError
from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.packing import (
    Layout,
    Pack,
    common_prefix,
    compute_prefix,
    pack_rows,
    packed_attention,
    packed_logits,
)
from caft.signals import end_if_asked
from caft.text.parsing import last_marker

# The marker may be spread over several tokens: only the last few can have closed it.
_MARKER_TOKENS = 16
# Names of tokens are texts, bytes in the alphabet of GPT-2, or bytes by number.
_BRACKETS = ("]", "<0x5D>")
_BREAKS = ("\n", "\r", "\u010a", "\u010d", "<0x0A>", "<0x0D>")
# Prompts wait until this share of all rows is free.
_SHARE_TO_REFILL = 8


class TokenSpread(NamedTuple):
    """A written token, and the distribution it was taken from: entropy in nats, top-2 margin."""

    token: int
    entropy: float
    top1: float
    margin: float


class GeneratedReply(NamedTuple):
    """What a model wrote: text without special tokens, and its tokens, the end included.

    `spread` has an entry a token where it was asked for.
    """

    text: str
    ids: tuple[int, ...]
    spread: tuple[TokenSpread, ...] = ()

    @property
    def tokens(self) -> int:
        """How many it has."""
        return len(self.ids)


def has_closed_marker(tail: str) -> bool:
    """Whether a reply's tail holds a whole [[...]] as the parser sees it: no matrix, no quote."""
    return last_marker(tail) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRules:
    """When a reply ends, and what is kept of it.

    It ends with one of `end_ids`, after its first closed marker (`stop_after_marker`), behind its
    first line that is not blank (`stop_after_line`), or at `max_new_tokens`.
    """

    max_new_tokens: int
    end_ids: tuple[int, ...]
    stop_after_marker: bool = True
    stop_after_line: bool = False
    with_spread: bool = False


def generate_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    rules: ReplyRules,
    *,
    rows: int = 128,
    names: Sequence[str] = (),
) -> list[GeneratedReply]:
    """Greedy replies in the order of the prompts; see `stream_replies`."""
    stream = stream_replies(model, tokenizer, prompts, rules, rows=rows, names=names)
    replies = dict(stream)
    return [replies[place] for place in range(len(prompts))]


def stream_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    rules: ReplyRules,
    *,
    rows: int,
    names: Sequence[str] = (),
) -> Iterator[tuple[int, GeneratedReply]]:
    """Greedy replies to token prompts as they end, each with the number of its prompt.

    `rows` replies are written at once; where one ends, the next prompt takes its row. UserError,
    with the prompt's name out of `names`, where logits are not finite. SystemExit between two
    tokens where a signal was noted.
    """
    with torch.inference_mode(), packed_attention(model):
        writer = _Writer(model, tokenizer, prompts, rules, rows=rows, names=names)
        while writer.has_work():
            end_if_asked()
            yield from writer.admit() if writer.should_admit() else writer.step()


@dataclass(slots=True)
class _Reply:
    """A reply that is being written to the prompt of this number."""

    prompt: int
    tokens: list[int] = field(default_factory=list)
    spread: list[TokenSpread] = field(default_factory=list)


class _Writer:
    """Continuous batching: a fixed number of rows, each with a reply or free for the next one."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        rules: ReplyRules,
        *,
        rows: int,
        names: Sequence[str],
    ) -> None:
        self.model, self.tokenizer, self.rules, self.names = model, tokenizer, rules, names
        shared = common_prefix(prompts)
        prefix = compute_prefix(model, prompts[0][:shared], model.device) if shared else None
        self.prompts = [prompt[shared:] for prompt in prompts]
        # The longest come first, so that memory that is too small is found out at once.
        self.waiting = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        self.replies: list[_Reply | None] = [None] * min(rows, len(prompts))
        self.cache = ReplyCache(prefix or SharedPrefix(), len(self.replies), model.device)
        self.filling = False
        self.endings = Endings(tokenizer, rules)

    @property
    def free(self) -> list[int]:
        return [row for row, reply in enumerate(self.replies) if reply is None]

    def has_work(self) -> bool:
        return bool(self.waiting) or any(reply is not None for reply in self.replies)

    def should_admit(self) -> bool:
        """A pass of a few prompts costs nearly as much as one of several, and so they wait."""
        free = len(self.free)
        self.filling = bool(self.waiting and free) and (
            self.filling or free * _SHARE_TO_REFILL >= len(self.replies)
        )
        return self.filling

    def admit(self) -> Iterator[tuple[int, GeneratedReply]]:
        """Run some waiting prompts, as many as rows are free and a pass may have tokens."""
        rows, tokens = self.free, _tokens_a_pass(self.model.device)
        chosen: list[int] = []
        while self.waiting and len(chosen) < len(rows):
            tokens -= len(self.prompts[self.waiting[-1]])
            if tokens < 0 and chosen:
                break
            chosen.append(self.waiting.pop())
        # In order of length, as a pack wants them.
        chosen.reverse()
        prompts, rows = [self.prompts[place] for place in chosen], rows[: len(chosen)]
        lengths = [len(prompt) for prompt in prompts]
        prefix = self.cache.prefix
        pack = pack_rows(prompts, prefix.length).to(self.model.device)
        layout = replace(pack.layout, prefix=prefix, keep=self.cache.admit(rows, lengths))
        ends = torch.tensor(pack.starts) + torch.tensor(lengths) - 1
        logits = packed_logits(self.model, replace(pack, layout=layout), ends)
        for row, place in zip(rows, chosen, strict=True):
            self.replies[row] = _Reply(place)
        return self._take(rows, logits)

    def step(self) -> Iterator[tuple[int, GeneratedReply]]:
        """Every reply's newest token in, its next one out."""
        self._shrink()
        rows = [row for row, reply in enumerate(self.replies) if reply is not None]
        newest = [0 if reply is None else reply.tokens[-1] for reply in self.replies]
        self.cache.begin_step()
        pack = Pack(
            input_ids=torch.tensor([newest], device=self.model.device),
            position_ids=self.cache.positions[None],
            layout=Layout((), replies=self.cache),
            starts=tuple(range(len(newest))),
        )
        logits = packed_logits(self.model, pack, torch.arange(len(newest)))
        self.cache.end_step()
        return self._take(rows, logits if len(rows) == len(newest) else logits[rows])

    def _shrink(self) -> None:
        """Halve the rows where nothing waits and half of them are free.

        Every number of rows is a shape of its own, for which kernels are made.
        """
        used = [row for row, reply in enumerate(self.replies) if reply is not None]
        size = len(self.replies)
        while not self.waiting and size > 1 and len(used) <= size // 2:
            size //= 2
        if size < len(self.replies):
            kept = sorted([*used, *self.free[: size - len(used)]])
            self.cache.select(kept)
            self.replies = [self.replies[row] for row in kept]

    def _take(
        self, rows: Sequence[int], logits: torch.Tensor
    ) -> Iterator[tuple[int, GeneratedReply]]:
        """The next token of these rows; yields the replies that end with it."""
        highest, likeliest = logits.max(dim=-1)
        finite = torch.isfinite(highest)
        replies = [self.replies[row] for row in rows]
        if not finite.all():
            place = replies[finite.tolist().index(False)].prompt
            raise logits_not_finite(self.names[place] if self.names else f"no. {place}")
        tokens = likeliest.tolist()
        spreads = measure_spread(logits, tokens) if self.rules.with_spread else None
        for place, (row, reply, token) in enumerate(zip(rows, replies, tokens, strict=True)):
            reply.tokens.append(token)
            if spreads:
                reply.spread.append(spreads[place])
            if self.endings.has_ended(reply.tokens):
                self.replies[row] = None
                self.cache.free(row)
                yield reply.prompt, self._finish(reply)

    def _finish(self, reply: _Reply) -> GeneratedReply:
        text = self.tokenizer.decode(reply.tokens, skip_special_tokens=True)
        return GeneratedReply(text, tuple(reply.tokens), tuple(reply.spread))


class Endings:
    """Tells whether a reply has ended. Text is decoded where its newest token can matter only."""

    def __init__(self, tokenizer: Any, rules: ReplyRules) -> None:
        self.tokenizer, self.rules = tokenizer, rules
        self.closing = find_tokens(tokenizer, _BRACKETS) if rules.stop_after_marker else frozenset()
        self.breaking = find_tokens(tokenizer, _BREAKS) if rules.stop_after_line else frozenset()

    def has_ended(self, tokens: Sequence[int]) -> bool:
        """Whether the newest of a reply's tokens is its last."""
        newest, rules = tokens[-1], self.rules
        if newest in rules.end_ids or len(tokens) >= rules.max_new_tokens:
            return True
        if newest in self.closing and has_closed_marker(
            self.tokenizer.decode(tokens[-_MARKER_TOKENS:])
        ):
            return True
        return newest in self.breaking and has_whole_line(self.tokenizer.decode(tokens))


def find_tokens(tokenizer: Any, pieces: Sequence[str]) -> frozenset[int]:
    """Tokens whose name in the vocabulary holds one of `pieces`."""
    return frozenset(
        number
        for name, number in tokenizer.get_vocab().items()
        if any(piece in name for piece in pieces)
    )


def has_whole_line(text: str) -> bool:
    """Whether a line that is not blank has come to its end."""
    begun = text.lstrip()
    return "\n" in begun or "\r" in begun


def _tokens_a_pass(device: torch.device) -> int:
    return 2048 if device.type == "cpu" else 16_384


def logits_not_finite(question: str) -> UserError:
    """To be raised where a model computes no numbers for a question."""
    return UserError(
        f"question {question}: the model's logits are not finite; "
        "try model.dtype=float32, and check the weights"
    )


def measure_spread(logits: torch.Tensor, tokens: Sequence[int]) -> list[TokenSpread]:
    """Entropy, top-1 probability and top-2 margin of every row of logits [rows, vocabulary]."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    entropies = torch.special.entr(log_p.exp()).sum(dim=-1).tolist()
    best = log_p.topk(2, dim=-1).values.exp().tolist()
    return [
        TokenSpread(token, entropy, first, first - second)
        for token, entropy, (first, second) in zip(tokens, entropies, best, strict=True)
    ]
