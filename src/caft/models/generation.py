"""Written replies, many at once; where one ends, the next prompt takes its row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

import torch

from caft.errors import UserError
from caft.kernels.kv_cache import SharedPrefix
from caft.kernels.packed_attention import packed_attention, runs_alone
from caft.kernels.packing import compute_prefix, pack_rows, packed_logits
from caft.kernels.rotary import switch_of
from caft.kernels.row_cache import RowCache
from caft.kernels.shared_prefixes import common_prefix
from caft.kernels.token_steps import TokenSteps
from caft.models.config import tokens_of_a_pass
from caft.models.estimates import TokenSpread, measure_spread
from caft.models.reply_cache import make_cache
from caft.models.reply_in_work import Asked, Begun, Reply
from caft.models.reply_rules import ReplyRules, has_ended
from caft.models.sampling import Draw, draw_tokens
from caft.models.thinking_cap import SpanWatch, reply_text
from caft.models.thinking_span import ends_open
from caft.protocols import CausalLM, Tokenizer
from caft.signals import end_if_asked

# Prompts wait until this share of all rows is free.
_SHARE_TO_REFILL = 8
# A prefix has products of its own in every layer and step, which a few tokens are not worth.
_SHORTEST_SHARED = 16
# Where no prompt waits, free rows are left out when this share of all rows is in use. On CUDA a new
# number of rows costs a new graph, and free rows next to nothing.
_SHARE_TO_KEEP = {"cpu": 0.75}
_SHARE_TO_KEEP_ELSEWHERE = 0.5
# In the place of a token where the model computes no numbers.
_NOT_FINITE = -1


class GeneratedReply(NamedTuple):
    """Text without special tokens, and the tokens written, end included.

    `spread` has an entry a token where it was asked for. `thinking_tokens` are those of thinking
    spans, with their marks, if the rules know the model's.
    """

    text: str
    ids: tuple[int, ...]
    spread: tuple[TokenSpread, ...] = ()
    thinking_tokens: int = 0

    @property
    def tokens(self) -> int:
        """How many it has."""
        return len(self.ids)


@torch.inference_mode()
def stream_replies(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    rules: ReplyRules,
    *,
    rows: int,
    names: Sequence[str] = (),
    samples: Sequence[int] = (),
    watch: Callable[[Sequence[int]], None] | None = None,
    at_once: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[int, GeneratedReply]]:
    """Replies to token prompts as they end, each with the number of its prompt.

    Where tokens are drawn, a reply depends on its prompt, its name (without `names`, the prompt's
    number) and its number out of `samples` (0 for all without it), on nothing else.

    `rows` replies are written at once; where one ends, the next prompt takes its row. UserError,
    with the prompt's name out of `names`, where logits are not finite. SystemExit between two
    tokens where a signal was noted. `watch` gets the lengths in tokens of the replies in work,
    after every step. `at_once` gets how many rows memory is thought to hold, before it is taken.
    """
    # A row that is run alone has angles of its own.
    switch = None if runs_alone(model) else switch_of(model)
    short = {
        place: prompt
        for place, prompt in enumerate(prompts)
        if switch is None or len(prompt) <= switch
    }
    long = {place: prompt for place, prompt in enumerate(prompts) if place not in short}
    start = partial(
        _Writer, model, tokenizer, rules=rules, rows=rows, names=names, samples=samples,
        at_once=at_once, switch=switch,
    )  # fmt: skip
    with packed_attention(model):
        begun: dict[int, Reply] = {}
        if short:
            begun = yield from _write(start(short), watch)
        long |= {place: [*prompts[place], *reply.tokens] for place, reply in begun.items()}
        if long:
            yield from _write(start(long, resumed=begun), watch)


def _write(
    writer: _Writer, watch: Callable[[Sequence[int]], None] | None
) -> Generator[tuple[int, GeneratedReply], None, dict[int, Reply]]:
    """Replies as they end; returns those that have to go on with other angles."""
    while writer.has_work():
        end_if_asked()
        yield from writer.admit() if writer.should_admit() else writer.step()
        if watch:
            watch([len(reply.tokens) for reply in writer.replies.values()])
    return writer.crossed


class _Writer:
    """Continuous batching: a fixed number of rows, each with a reply or free for the next one.

    Where nothing about a reply is needed to write its next token but the newest one, a step is
    asked for before the one before it is read: the device computes while tokens are looked at.

    Where the model's angles `switch` (kernels/rotary.py), all prompts are on one side of it. A
    reply that comes to the other side is left in `crossed`. It goes on as `resumed` by a writer of
    that side, with its tokens as a part of its prompt: all its keys have the angles of that side
    then, as they have in transformers.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: Tokenizer,
        prompts: Mapping[int, Sequence[int]],
        rules: ReplyRules,
        *,
        rows: int,
        names: Sequence[str],
        samples: Sequence[int],
        at_once: Callable[[int], None],
        switch: int | None = None,
        resumed: Mapping[int, Reply] = MappingProxyType({}),
    ) -> None:
        self.model, self.tokenizer, self.rules, self.names = model, tokenizer, rules, names
        self.samples = samples
        self.resumed, self.crossed = resumed, dict[int, Reply]()
        texts = list(prompts.values())
        passed = switch if switch is not None and len(texts[0]) > switch else 0
        self.switch = None if passed else switch
        shared = common_prefix(texts)
        shared = shared if shared >= max(_SHORTEST_SHARED, passed + 1) else 0
        prefix = compute_prefix(model, texts[0][:shared], model.device) if shared else None
        self.prompts = {place: prompt[shared:] for place, prompt in prompts.items()}
        self.opened = {
            place: bool(rules.thinking) and ends_open(tokenizer, prompt)
            for place, prompt in prompts.items()
        }
        # The longest are taken first, so that memory that is too small is found out at once.
        # Equal prompts are neighbours, and run once.
        self.waiting = sorted(
            prompts, key=lambda place: (len(prompts[place]), tuple(prompts[place]))
        )
        self.begun: Begun | None = None
        self.replies: dict[int, Reply] = {}
        expected = [len(self.prompts[place]) for place in reversed(self.waiting)][:rows]
        self.cache = make_cache(model, prefix, expected, rules.most_tokens, at_once)
        self.rows = len(self.cache.lengths)
        self.steps = TokenSteps(model, self.cache)
        self.filling = False
        self.asked: Asked | None = None
        closes = rules.thinking is not None and rules.thinking.max_tokens is not None
        longest = len(prompts[self.waiting[-1]]) + rules.most_tokens
        self.ahead = (
            isinstance(self.cache, RowCache)
            and not closes
            and not rules.with_spread
            and (self.switch is None or longest <= self.switch)
        )

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
        yield from self._read()
        free = [row for row in range(self.rows) if row not in self.replies]
        chosen = self._choose_prompts(len(free))
        # The longest prompt takes the first free row; a pack wants them in order of length.
        rows = [[free.pop(0) for _ in places] for places in chosen][::-1]
        chosen.reverse()
        logits = self._run([self.prompts[places[0]] for places in chosen], rows)
        every = list(chain(*rows))
        if len(every) > len(logits):
            copies = torch.tensor([len(places) for places in chosen], device=logits.device)
            logits = logits.repeat_interleave(copies, dim=0)
        begun = zip(every, chain(*chosen), strict=True)
        self.replies |= {row: self._begin(place) for row, place in begun}
        yield from self._put(self._ask(every, logits), logits)

    def _choose_prompts(self, free: int) -> list[list[int]]:
        """The numbers of prompts that wait no longer, those of equal prompts together."""
        tokens = 0 if self.begun else tokens_of_a_pass(self.model.device.type)
        chosen: list[list[int]] = []
        for _ in range(min(free, len(self.waiting))):
            if not chosen or not self._waits(self.prompts[chosen[-1][0]]):
                tokens -= len(self.prompts[self.waiting[-1]])
                if tokens < 0 and chosen:
                    break
                chosen.append([])
            chosen[-1].append(self.waiting.pop())
        return chosen

    def _waits(self, prompt: Sequence[int]) -> bool:
        return bool(self.waiting) and self.prompts[self.waiting[-1]] == prompt

    def _run(self, prompts: list[Sequence[int]], rows: list[list[int]]) -> torch.Tensor:
        """The logits behind each prompt, whose keys and values go to its rows."""
        lengths = [len(prompt) for prompt in prompts]
        new = self.cache.admit(rows, lengths)
        before, waits = self.begun, self._waits(prompts[0])
        if before is not None:
            for layer, key in before.cached.keys.items():
                new.keep(layer, key, before.cached.values[layer])
            self.begun = before if waits else None
            return before.logits
        cached = SharedPrefix(lengths[0])
        pack = pack_rows(prompts, self.cache.prefix.length).to(self.model.device)
        keep = replace(new, first=cached) if waits else new
        layout = replace(pack.layout, prefix=self.cache.prefix, keep=keep)
        ends = torch.tensor(pack.starts) + torch.tensor(lengths) - 1
        logits = packed_logits(self.model, replace(pack, layout=layout), ends)
        self.begun = Begun(cached, logits[:1].clone()) if waits else None
        return logits

    def _begin(self, place: int) -> Reply:
        if place in self.resumed:
            return self.resumed[place]
        if self.rules.thinking is None:
            return Reply(place)
        open_mark = "" if self.opened[place] else None
        return Reply(place, SpanWatch(self.tokenizer, self.rules.thinking, open_mark))

    def step(self) -> Iterator[tuple[int, GeneratedReply]]:
        """Every reply's newest token in, its next one out."""
        if self._has_idle_rows():
            yield from self._read()
            if not self.replies:
                return
            self._shrink()
        rows = list(range(self.rows)) if self.ahead else sorted(self.replies)
        if runs_alone(self.model):
            logits = self._read_again(rows)
        else:
            logits = self.steps.run(self._newest())
            logits = logits if len(rows) == self.rows else logits[rows]
        before, self.asked = self.asked, self._ask(rows, logits)
        if not self.ahead:
            yield from self._read(logits)
        elif before is not None:
            yield from self._put(before)

    def _newest(self) -> torch.Tensor:
        """The newest token of every row."""
        if self.asked is not None:
            return self.asked.tokens.clamp(min=0)
        rows = range(self.rows)
        return torch.tensor(
            [self.replies[row].tokens[-1] if row in self.replies else 0 for row in rows]
        )

    def _read_again(self, rows: Sequence[int]) -> torch.Tensor:
        """The logits behind these replies, of a model that keeps no keys: read from the start."""
        replies = [self.replies[row] for row in rows]
        texts = [[*self.prompts[reply.prompt], *reply.tokens] for reply in replies]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        pack = pack_rows([texts[place] for place in order], self.cache.prefix.length)
        layout = replace(pack.layout, prefix=self.cache.prefix)
        ends = torch.tensor([*pack.starts[1:], pack.input_ids.shape[1]]) - 1
        pack = replace(pack, layout=layout).to(self.model.device)
        return packed_logits(self.model, pack, ends)[torch.tensor(order).argsort()]

    def _has_idle_rows(self) -> bool:
        kept = _SHARE_TO_KEEP.get(self.model.device.type, _SHARE_TO_KEEP_ELSEWHERE)
        return not self.waiting and len(self.replies) <= self.rows * kept

    def _shrink(self) -> None:
        """Leave out free rows. Every number of rows is a shape, for which kernels are made."""
        kept = sorted(self.replies)
        self.cache.select(kept)
        self.replies = {row: self.replies[before] for row, before in enumerate(kept)}
        self.rows = len(kept)

    def _ask(self, rows: Sequence[int], logits: torch.Tensor) -> Asked:
        """The next token of these rows; of a free one, any."""
        replies = {row: self.replies[row] for row in rows if row in self.replies}
        tokens = self._choose_tokens(rows, logits)
        for reply in replies.values():
            reply.asked += 1
        return Asked(rows, replies, tokens)

    def _choose_tokens(self, rows: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """The model's next token of these rows; `_NOT_FINITE` where logits are no numbers."""
        highest, tokens = logits.max(dim=-1)
        if self.rules.sampling.draws:
            draws = [self._draw(row) for row in rows]
            tokens = draw_tokens(logits, self.rules.sampling, draws)
        return torch.where(highest.isfinite(), tokens, _NOT_FINITE)

    def _read(self, logits: torch.Tensor | None = None) -> Iterator[tuple[int, GeneratedReply]]:
        """Put what has been asked for."""
        asked, self.asked = self.asked, None
        if asked is not None:
            yield from self._put(asked, logits)

    def _put(
        self, asked: Asked, logits: torch.Tensor | None = None
    ) -> Iterator[tuple[int, GeneratedReply]]:
        """The tokens to their replies; yields those that end. UserError where one is no number.

        A reply that has ended since then wants none.
        """
        chosen = asked.read()
        going_on = {
            row: reply for row, reply in asked.replies.items() if self.replies.get(row) is reply
        }
        for row, reply in going_on.items():
            if chosen[row] == _NOT_FINITE:
                place = reply.prompt
                raise logits_not_finite(self.names[place] if self.names else f"no. {place}")
            reply.put(chosen[row])
        if self.rules.with_spread:
            assert logits is not None
            for reply, spread in zip(going_on.values(), measure_spread(logits), strict=True):
                reply.spread.append(spread)
        for row, reply in going_on.items():
            if has_ended(self.tokenizer, reply.tokens, self.rules, reply.span):
                self.cache.free(row)
                del self.replies[row]
                yield reply.prompt, self._finish(reply)
            elif self._crosses(reply):
                self.cache.free(row)
                del self.replies[row]
                self.crossed[reply.prompt] = reply

    def _crosses(self, reply: Reply) -> bool:
        prompt = self.cache.prefix.length + len(self.prompts[reply.prompt])
        return self.switch is not None and prompt + len(reply.tokens) > self.switch

    def _finish(self, reply: Reply) -> GeneratedReply:
        text = reply_text(self.tokenizer, reply.tokens, self.rules.thinking)
        thinking_tokens = reply.span.thinking_tokens if reply.span else 0
        return GeneratedReply(text, tuple(reply.tokens), tuple(reply.spread), thinking_tokens)

    def _draw(self, row: int) -> Draw:
        """What the noise of a reply's next token depends on; of a free row, anything."""
        reply = self.replies.get(row)
        if reply is None:
            return Draw("", 0, 0)
        name = self.names[reply.prompt] if self.names else str(reply.prompt)
        return Draw(name, self.samples[reply.prompt] if self.samples else 0, reply.asked)


def logits_not_finite(question: str) -> UserError:
    """To be raised where a model computes no numbers for a question."""
    return UserError(
        f"question {question}: the model's logits are not finite; "
        "check the weights, and for the student try model.dtype=float32"
    )
