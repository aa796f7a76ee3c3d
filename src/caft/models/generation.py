"""Greedy replies, many at once; where one ends, the next prompt takes its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch

from caft.errors import UserError
from caft.kernels.kv_cache import ReplyCache, SharedPrefix
from caft.kernels.packed_attention import Layout, packed_attention
from caft.kernels.packing import Pack, compute_prefix, pack_rows, packed_logits
from caft.kernels.shared_prefixes import common_prefix
from caft.models.config import tokens_of_a_pass
from caft.models.estimates import entropy_of
from caft.protocols import CausalLM, Tokenizer
from caft.signals import end_if_asked
from caft.text.parsing import last_marker

# The marker may be spread over several tokens: only the last few can have closed it.
_MARKER_TOKENS = 16
# Prompts wait until this share of all rows is free.
_SHARE_TO_REFILL = 8
# Own tokens of all replies that a CPU writes at once, half of the cap counted: half as many again
# wrote long prompts' replies about a tenth faster and took 40% more memory.
_MOST_CACHED = 8192
# A prefix has products of its own in every layer and step, which a few tokens are not worth.
_SHORTEST_SHARED = 16
# Where no prompt waits, free rows are left out when this share of all rows is in use.
_SHARE_TO_KEEP = 0.75


class TokenSpread(NamedTuple):
    """A written token and its distribution: entropy in nats, top-1 probability, top-2 margin."""

    token: int
    entropy: float
    top1: float
    margin: float


class GeneratedReply(NamedTuple):
    """Text without special tokens, and the tokens written, end included.

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
    model: CausalLM,
    tokenizer: Tokenizer,
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


@torch.inference_mode()
def stream_replies(
    model: CausalLM,
    tokenizer: Tokenizer,
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
    with packed_attention(model):
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
        model: CausalLM,
        tokenizer: Tokenizer,
        prompts: Sequence[Sequence[int]],
        rules: ReplyRules,
        *,
        rows: int,
        names: Sequence[str],
    ) -> None:
        self.model, self.tokenizer, self.rules, self.names = model, tokenizer, rules, names
        shared = common_prefix(prompts)
        shared = shared if shared >= _SHORTEST_SHARED else 0
        prefix = compute_prefix(model, prompts[0][:shared], model.device) if shared else None
        self.prompts = [prompt[shared:] for prompt in prompts]
        # The longest are taken first, so that memory that is too small is found out at once.
        self.waiting = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        self.replies: dict[int, _Reply] = {}
        expected = [len(self.prompts[place]) for place in reversed(self.waiting)][:rows]
        if model.device.type == "cpu":
            expected = _within_cache(expected, rules.max_new_tokens)
        self.rows = len(expected)
        self.cache = ReplyCache(prefix or SharedPrefix(), expected, model.device)
        self.filling = False

    def has_work(self) -> bool:
        return bool(self.waiting or self.replies)

    def should_admit(self) -> bool:
        """A pass of a few prompts costs nearly as much as one of several, and so they wait."""
        free = self.rows - len(self.replies)
        self.filling = bool(self.waiting and free) and (
            self.filling or free * _SHARE_TO_REFILL >= self.rows
        )
        return self.filling

    def admit(self) -> Iterator[tuple[int, GeneratedReply]]:
        """Run some waiting prompts, as many as rows are free and a pass may have tokens."""
        rows = [row for row in range(self.rows) if row not in self.replies]
        tokens, chosen = tokens_of_a_pass(self.model.device.type), list[int]()
        while self.waiting and len(chosen) < len(rows):
            tokens -= len(self.prompts[self.waiting[-1]])
            if tokens < 0 and chosen:
                break
            chosen.append(self.waiting.pop())
        # In order of length, as a pack wants them; the longest prompt takes the first free row.
        chosen.reverse()
        rows = rows[: len(chosen)][::-1]
        prompts = [self.prompts[place] for place in chosen]
        lengths = [len(prompt) for prompt in prompts]
        pack = pack_rows(prompts, self.cache.prefix.length).to(self.model.device)
        keep = self.cache.admit(rows, lengths)
        layout = replace(pack.layout, prefix=self.cache.prefix, keep=keep)
        ends = torch.tensor(pack.starts) + torch.tensor(lengths) - 1
        logits = packed_logits(self.model, replace(pack, layout=layout), ends)
        self.replies |= {row: _Reply(place) for row, place in zip(rows, chosen, strict=True)}
        return self._take(rows, logits)

    def step(self) -> Iterator[tuple[int, GeneratedReply]]:
        """Every reply's newest token in, its next one out."""
        self._shrink()
        rows = sorted(self.replies)
        newest = [self.replies[row].tokens[-1] if row in self.replies else 0
                  for row in range(self.rows)]  # fmt: skip
        self.cache.begin_step()
        pack = Pack(
            input_ids=torch.tensor([newest], device=self.model.device),
            position_ids=self.cache.positions[None],
            layout=Layout((), replies=self.cache),
            starts=tuple(range(self.rows)),
        )
        every = torch.arange(self.rows, device=self.model.device)
        logits = packed_logits(self.model, pack, every)
        self.cache.end_step()
        return self._take(rows, logits if len(rows) == self.rows else logits[rows])

    def _shrink(self) -> None:
        """Leave out free rows where nothing waits and a quarter of all rows are free.

        Every number of rows is a shape of its own, for which kernels are made.
        """
        used = len(self.replies)
        if not self.waiting and used <= self.rows * _SHARE_TO_KEEP:
            kept = sorted(self.replies)
            self.cache.select(kept)
            self.replies = {row: self.replies[before] for row, before in enumerate(kept)}
            self.rows = used

    def _take(
        self, rows: Sequence[int], logits: torch.Tensor
    ) -> Iterator[tuple[int, GeneratedReply]]:
        """The next token of these rows; yields the replies that end with it."""
        highest, likeliest = logits.max(dim=-1)
        finite = torch.isfinite(highest)
        if not finite.all():
            place = self.replies[rows[finite.tolist().index(False)]].prompt
            raise logits_not_finite(self.names[place] if self.names else f"no. {place}")
        tokens = likeliest.tolist()
        spreads = measure_spread(logits, tokens) if self.rules.with_spread else []
        for row, token in zip(rows, tokens, strict=True):
            self.replies[row].tokens.append(token)
        for row, spread in zip(rows, spreads, strict=False):
            self.replies[row].spread.append(spread)
        for row in rows:
            if has_ended(self.tokenizer, self.replies[row].tokens, self.rules):
                self.cache.free(row)
                reply = self.replies.pop(row)
                text = self.tokenizer.decode(reply.tokens, skip_special_tokens=True)
                yield (
                    reply.prompt,
                    GeneratedReply(text, tuple(reply.tokens), tuple(reply.spread)),
                )


def _within_cache(lengths: Sequence[int], max_new_tokens: int) -> list[int]:
    """As many of these own lengths of prompts, at least one, as a CPU writes replies to at once."""
    cached = accumulate(length + max_new_tokens // 2 for length in lengths)
    return [
        length
        for row, (length, total) in enumerate(zip(lengths, cached, strict=True))
        if row == 0 or total <= _MOST_CACHED
    ]


def has_ended(tokenizer: Tokenizer, tokens: Sequence[int], rules: ReplyRules) -> bool:
    """Whether the newest token of a reply is its last."""
    return (
        tokens[-1] in rules.end_ids
        or len(tokens) >= rules.max_new_tokens
        or (rules.stop_after_marker and _closes_marker(tokenizer, tokens))
        or (rules.stop_after_line and _ends_line(tokenizer, tokens))
    )


def _closes_marker(tokenizer: Tokenizer, written: Sequence[int]) -> bool:
    # Most replies have no bracket yet, and to decode every tail takes longer than to look.
    tail = written[-_MARKER_TOKENS:]
    return any("]" in _piece(tokenizer, token) for token in tail) and has_closed_marker(
        tokenizer.decode(tail)
    )


def _ends_line(tokenizer: Tokenizer, written: Sequence[int]) -> bool:
    newest = _piece(tokenizer, written[-1])
    if "\n" not in newest and "\r" not in newest:
        return False
    begun = tokenizer.decode(written).lstrip()
    return "\n" in begun or "\r" in begun


@lru_cache(maxsize=2**16)
def _piece(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.decode([token])


def logits_not_finite(question: str) -> UserError:
    """To be raised where a model computes no numbers for a question."""
    return UserError(
        f"question {question}: the model's logits are not finite; "
        "try model.dtype=float32, and check the weights"
    )


def measure_spread(logits: torch.Tensor, tokens: Sequence[int]) -> list[TokenSpread]:
    """Entropy, top-1 probability and top-2 margin of every row of logits [rows, vocabulary]."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    entropies = entropy_of(log_p).tolist()
    best = log_p.topk(2, dim=-1).values.exp().tolist()
    return [
        TokenSpread(token, entropy, first, first - second)
        for token, entropy, (first, second) in zip(tokens, entropies, best, strict=True)
    ]
